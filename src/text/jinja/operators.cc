// What operators, subscripts and loops do with values.
#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {

Value attribute(Context& context, const Value& object, std::string_view name) {
  if (context.failed()) return {};
  if (object.is_undefined()) return context.fail("an undefined value has no attribute ", name);
  if (object.loop() != nullptr) return loop_attribute(*object.loop(), name);
  if (object.string() != nullptr) return string_method(object, name);
  if (object.list() != nullptr) return list_method(object, name);
  if (object.dict() == nullptr) return {};
  if (Value method = dict_method(object, name); !method.is_undefined()) return method;
  context.charge(object.dict()->items.size() / 16);
  const Value* found = object.dict()->find(name);
  return found == nullptr ? Value() : *found;
}

Value item(Context& context, const Value& object, const Value& key) {
  if (context.failed()) return {};
  if (object.is_undefined()) return context.fail("an undefined value has no items");
  if (const auto index = key.as_integer(); index && (object.list() != nullptr || object.string() != nullptr)) {
    if (object.list() != nullptr) {
      const auto count = static_cast<int64_t>(object.list()->size());
      const int64_t place = *index < 0 ? *index + count : *index;
      return place < 0 || place >= count ? Value() : (*object.list())[static_cast<size_t>(place)];
    }
    const std::string& text = object.string()->text();
    context.charge(text.size() / 64);
    const int64_t place = *index < 0 ? *index + length(text) : *index;
    const size_t at = offset_of(text, place);
    if (place < 0 || at >= text.size()) return {};
    return object.string()->substr(at, next_character(text, at) - at);
  }
  if (key.string() == nullptr) return {};
  const std::string& name = key.string()->text();
  if (object.dict() != nullptr) {
    context.charge(object.dict()->items.size() / 16);
    if (const Value* found = object.dict()->find(name)) return *found;
    return dict_method(object, name);
  }
  return attribute(context, object, name);
}

Value slice(Context& context, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (context.failed()) return {};
  const bool is_string = object.string() != nullptr;
  if (!is_string && object.list() == nullptr) return context.fail("a ", object.type_name(), " has no slices");
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->as_integer()) return context.fail("a slice takes integers");
  }
  const auto count = is_string ? length(object.string()->text()) : static_cast<int64_t>(object.list()->size());
  const int64_t by = step.as_integer().value_or(1);
  if (by == 0) return context.fail("a slice with a step of zero");
  const auto place = [&](const Value& bound, int64_t otherwise) {
    const auto given = bound.as_integer();
    if (!given) return otherwise;
    const int64_t from_start = *given < 0 ? *given + count : *given;
    return by > 0 ? std::clamp<int64_t>(from_start, 0, count) : std::clamp<int64_t>(from_start, -1, count - 1);
  };
  const int64_t first = place(start, by > 0 ? 0 : count - 1), last = place(stop, by > 0 ? count : -1);
  if (!context.charge(1 + static_cast<size_t>(count) / 16)) return {};
  if (is_string && by == 1) {
    const std::string& text = object.string()->text();
    const size_t begin = offset_of(text, first), end = offset_of(text, last);
    return begin < end && context.charge_bytes(end - begin) ? object.string()->substr(begin, end - begin)
                                                            : MarkedString();
  }
  const auto whole = iterate(context, object);  // a string's characters, too
  List items;
  for (int64_t i = first; by > 0 ? i < last : i > last;) {
    if (!context.charge_items(1)) return {};
    items.push_back((*whole)[static_cast<size_t>(i)]);
    const auto next = checked_add(i, by);
    if (!next) break;
    i = *next;
  }
  return is_string ? Value(join(context, items, MarkedString())) : Value(std::move(items));
}

Value arithmetic(Context& context, std::string_view op, const Value& left, const Value& right) {
  if (context.failed()) return {};
  if (op == "~" || (op == "+" && left.string() != nullptr && right.string() != nullptr)) {
    return join(context, {left, right}, MarkedString());
  }
  if (op == "+" && left.list() != nullptr && right.list() != nullptr) {
    if (!context.charge_items(left.list()->size() + right.list()->size())) return {};
    List items = *left.list();
    items.insert(items.end(), right.list()->begin(), right.list()->end());
    return items;
  }
  if (op == "*" && (left.string() != nullptr || right.string() != nullptr)) {
    const Value& text = left.string() != nullptr ? left : right;
    const auto times = (left.string() != nullptr ? right : left).as_integer();
    if (!times) return context.fail("a string times a ", right.type_name());
    TextBuilder out(context);
    for (int64_t i = 0; i < *times && text.string()->size() > 0 && context.charge(1); ++i) out.append(*text.string());
    return out.take();
  }
  if (!left.is_number() || !right.is_number()) {
    return context.fail("a ", left.type_name(), " ", op, " a ", right.type_name());
  }
  const auto a = left.as_integer(), b = right.as_integer();
  const double x = left.as_real(), y = right.as_real();
  if ((op == "/" || op == "//" || op == "%") && y == 0) return context.fail("division by zero");
  if (op == "/") return x / y;
  if (!a || !b) {
    if (op == "+") return x + y;
    if (op == "-") return x - y;
    if (op == "*") return x * y;
    if (op == "//") return std::floor(x / y);
    if (op == "%") return x - std::floor(x / y) * y;
    return std::pow(x, y);
  }
  std::optional<int64_t> result;
  if (op == "+") result = checked_add(*a, *b);
  if (op == "-") {
    int64_t difference;
    if (!__builtin_sub_overflow(*a, *b, &difference)) result = difference;
  }
  if (op == "*") result = checked_mul(*a, *b);
  if ((op == "//" || op == "%") && *b == -1) {
    if (op == "%") return int64_t{0};
    if (*a != INT64_MIN) result = -*a;
  } else if (op == "//" || op == "%") {
    const int64_t rest = (*a % *b + *b) % *b;  // has the divisor's sign, as in Python
    result = op == "%" ? rest : (*a - rest) / *b;
  }
  if (op == "**") {
    if (*b < 0) return std::pow(x, y);
    result = 1;
    for (int64_t i = 0; i < *b && result && context.charge(1); ++i) result = checked_mul(*result, *a);
  }
  return result ? Value(*result) : context.fail("integer overflow");
}

bool contains(Context& context, const Value& container, const Value& value) {
  if (container.string() != nullptr) {
    if (value.string() == nullptr) {
      context.fail("a ", value.type_name(), " in a string");
      return false;
    }
    context.charge(container.string()->size() / 64);
    return find_bytes(container.string()->text(), value.string()->text(), 0) != std::string::npos;
  }
  if (container.list() != nullptr) {
    context.charge(container.list()->size() / 16);
    return std::ranges::any_of(*container.list(), [&](const Value& item) { return equal(context, item, value); });
  }
  if (container.dict() != nullptr) return value.string() != nullptr && container.dict()->find(value.string()->text());
  if (!container.is_undefined()) context.fail("a value in a ", container.type_name());
  return false;
}

std::shared_ptr<const List> iterate(Context& context, const Value& value) {
  if (auto items = value.shared_list()) return items;
  List out;
  if (value.dict() != nullptr && !value.dict()->is_namespace) {
    out = keys(context, *value.dict());
  } else if (const MarkedString* text = value.string()) {
    for (size_t at = 0; at < text->size();) {
      const size_t begin = std::exchange(at, next_character(text->text(), at));
      if (!context.charge_bytes(Context::kItemBytes + Context::kStringBytes + at - begin)) break;
      out.push_back(text->substr(begin, at - begin));
    }
  } else if (!value.is_undefined()) {
    context.fail("a ", value.type_name(), " has no items to go through");
  }
  return std::make_shared<const List>(std::move(out));
}

}  // namespace hearth::jinja
