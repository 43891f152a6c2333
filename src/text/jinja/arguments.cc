// Parameters are few: their names are searched for one by one.
#include "text/jinja/arguments.h"

#include <algorithm>

namespace hearth::jinja {
namespace {

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace

Bound::Bound(Context& context, std::string_view callee, std::string_view parameters, const Arguments& given)
    : context_(context), callee_(callee) {
  std::vector<std::string_view> names = words(parameters);
  const bool takes_more = std::erase(names, "*") > 0, takes_named = std::erase(names, "**") > 0;
  values_.assign(names.size(), nullptr);
  for (size_t i = 0; i < given.positional.size(); ++i) {
    if (i < names.size()) {
      values_[i] = &given.positional[i];
    } else if (takes_more) {
      rest_.positional.push_back(given.positional[i]);
    } else {
      context.fail(callee, " takes at most ", names.size(), " arguments");
    }
  }
  for (const auto& argument : given.named) {
    const auto& [name, value] = argument;
    const auto place = std::ranges::find_if(names,
                                            [&](std::string_view known) {
                                              return (known.ends_with('?') ? known.substr(0, known.size() - 1)
                                                                           : known) == argument.first;
                                            }) -
                       names.begin();
    if (const auto i = static_cast<size_t>(place); i < names.size()) {
      if (values_[i] != nullptr) context.fail(callee, " is given ", name, " twice");
      values_[i] = &value;
    } else if (takes_named) {
      rest_.named.emplace_back(name, value);
    } else {
      context.fail(callee, " takes no argument ", name);
    }
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (values_[i] == nullptr && !names[i].ends_with('?')) {
      context.fail(callee, " needs an argument ", names[i].starts_with('/') ? names[i].substr(1) : names[i]);
    }
  }
}

const MarkedString* Bound::text(size_t i) const {
  if (values_[i] == nullptr || values_[i]->is_none()) return nullptr;
  const MarkedString* text = values_[i]->string();
  if (text == nullptr) context_.fail(callee_, " takes a string, not a ", values_[i]->type_name());
  return text;
}

const MarkedString& Bound::needed_text(size_t i) const {
  static const MarkedString empty;
  const MarkedString* found = text(i);
  if (found == nullptr) context_.fail(callee_, " takes a string");
  return found == nullptr ? empty : *found;
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (values_[i] == nullptr) return otherwise;
  const auto value = values_[i]->as_integer();
  if (!value) context_.fail(callee_, " takes an integer, not a ", values_[i]->type_name());
  return value.value_or(otherwise);
}

}  // namespace hearth::jinja
