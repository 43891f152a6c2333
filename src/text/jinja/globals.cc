// Functions that a template can call without defining them.
#include <ctime>

#include "base/checked.h"
#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"

namespace hearth::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;

Value range(Context& context, const Arguments& given) {
  const Bound args(context, "range", "/start /stop? /step?", given);
  if (context.failed()) return {};
  const bool alone = args[1] == nullptr;
  const int64_t start = alone ? 0 : args.integer(0, 0), stop = args.integer(alone ? 0 : 1, 0),
                step = args.integer(2, 1);
  if (step == 0) return context.fail("range with a step of zero");
  List out;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (out.size() >= static_cast<size_t>(kMaxRange)) return context.fail("range longer than ", kMaxRange);
    if (!context.charge_items(1)) return {};
    out.push_back(i);
    const auto next = checked_add(i, step);
    if (!next) break;
    i = *next;
  }
  return Value(std::move(out), ListKind::kRange);
}

Value format_time(Context& context, const Arguments& given) {
  const Bound args(context, "strftime_now", "format", given);
  if (context.failed()) return {};
  const std::string& format = args.needed_text(0).text();
  if (format.size() > 256) return context.fail("strftime_now takes a short format");
  std::tm local = {};
  localtime_r(&context.now, &local);
  char buffer[1024];
  return Value::text(std::string_view(buffer, std::strftime(buffer, sizeof buffer, format.c_str(), &local)));
}

// Of another dictionary, or of a list of pairs, and of names.
Value make_dict(Context& context, const Arguments& given, bool is_namespace) {
  const Bound args(context, "dict", "/members? **", given);
  if (context.failed()) return {};
  Dict out;
  if (args[0] != nullptr && args[0]->dict() != nullptr) {
    if (!context.charge_items(4 * args[0]->dict()->items.size())) return {};
    out = *args[0]->dict();
  } else if (args[0] != nullptr) {
    const auto members = iterate(context, *args[0]);
    for (const Value& member : *members) {
      const auto pair = iterate(context, member);
      if (context.failed() || !context.charge_items(8 + out.items.size() / 16)) return {};
      if (pair->size() != 2 || (*pair)[0].string() == nullptr)
        return context.fail("dict takes pairs of a string and a value");
      out.set(*(*pair)[0].string(), (*pair)[1]);
    }
  }
  out.is_namespace = is_namespace;
  for (const auto& [name, value] : args.rest().named) out.set(MarkedString(name), value);
  return out;
}

// Nothing when it is called first, then the separator.
Value joiner(Context& context, const Arguments& given) {
  const Bound args(context, "joiner", "sep?", given);
  if (context.failed()) return {};
  const Value separator = args[0] == nullptr ? Value::text(", ") : Value(to_text(context, *args[0]));
  return Function([separator, used = std::make_shared<bool>(false)](Context& inner, const Arguments& none) {
    const Bound nothing(inner, "a joiner", "", none);
    return std::exchange(*used, true) ? separator : Value(MarkedString());
  });
}

Value raise_exception(Context& context, const Arguments& given) {
  const Bound args(context, "raise_exception", "message", given);
  return context.failed() ? Value() : context.raise(to_text(context, *args[0]));
}

}  // namespace

Value global(std::string_view name) {
  if (name == "range") return Function(range);
  if (name == "namespace") return Function([](Context& c, const Arguments& a) { return make_dict(c, a, true); });
  if (name == "dict") return Function([](Context& c, const Arguments& a) { return make_dict(c, a, false); });
  if (name == "joiner") return Function(joiner);
  if (name == "self") return Dict();  // the template's blocks, of which there are none
  if (name == "strftime_now") return Function(format_time);
  if (name == "raise_exception") return Function(raise_exception);
  return {};
}

}  // namespace hearth::jinja
