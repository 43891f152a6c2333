// What operators, subscripts and loops do with values.
#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

// Python's floor division and its remainder, which has the divisor's sign.
double division(double x, double y, bool remainder) {
  double rest = std::fmod(x, y);
  double quotient = (x - rest) / y;
  if (rest != 0 && (rest < 0) != (y < 0)) {
    rest += y;
    quotient -= 1;
  }
  if (remainder) return rest != 0 ? rest : std::copysign(0.0, y);
  if (quotient == 0) return std::copysign(0.0, x / y);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value power(Context& context, double x, double y) {
  if (x < 0 && y != std::floor(y)) return context.fail("a power that is no real number");
  if (x == 0 && y < 0) return context.fail("division by zero");
  const double result = std::pow(x, y);
  return std::isinf(result) && std::isfinite(x) && std::isfinite(y) ? context.fail("a power out of range") : result;
}

}  // namespace

Value attribute(Context& context, const Value& object, std::string_view name) {
  if (context.failed()) return {};
  if (object.is_undefined()) return context.fail("an undefined value has no attribute ", name);
  if (object.loop() != nullptr) return loop_attribute(object, name);
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
  if (object.is_view()) return {};
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
  if (!is_string && (object.list() == nullptr || object.is_view()))
    return context.fail("a ", object.type_name(), " has no slices");
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
  if (is_string) return join(context, items, MarkedString());
  return Value(std::move(items), object.is_tuple() ? ListKind::kTuple : object.list_kind());
}

Value arithmetic(Context& context, std::string_view op, const Value& left, const Value& right) {
  if (context.failed()) return {};
  if (op == "~" || (op == "+" && left.string() != nullptr && right.string() != nullptr)) {
    return join(context, {left, right}, MarkedString());
  }
  const auto adds = [](const Value& v) { return v.list() && (v.is_tuple() || v.list_kind() == ListKind::kList); };
  if (op == "+" && adds(left) && adds(right) && left.is_tuple() == right.is_tuple()) {
    if (!context.charge_items(left.list()->size() + right.list()->size())) return {};
    List items = *left.list();
    items.insert(items.end(), right.list()->begin(), right.list()->end());
    return Value(std::move(items), left.is_tuple() ? ListKind::kTuple : ListKind::kList);
  }
  if (op == "%" && left.string() != nullptr) return format_percent(context, *left.string(), right);
  if (op == "*" && (adds(left) || adds(right))) {
    const Value& list = adds(left) ? left : right;
    const auto times = (adds(left) ? right : left).as_integer();
    if (!times) return context.fail("a list times a ", (adds(left) ? right : left).type_name());
    List items;
    for (int64_t i = 0; i < *times && !list.list()->empty() && context.charge_items(list.list()->size()); ++i) {
      items.insert(items.end(), list.list()->begin(), list.list()->end());
    }
    return Value(std::move(items), list.is_tuple() ? ListKind::kTuple : ListKind::kList);
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
    if (op == "//" || op == "%") return division(x, y, op == "%");
    return power(context, x, y);
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
    if (*b < 0) return power(context, x, y);
    result = 1;
    for (int64_t i = 0; i < *b && result && context.charge(1); ++i) result = checked_mul(*result, *a);
  }
  return result ? Value(*result) : context.fail("integer overflow");
}

bool is_hashable(const Value& value) {
  if (value.is_tuple()) return std::ranges::all_of(*value.list(), is_hashable);
  return (value.list() == nullptr || value.list_kind() == ListKind::kRange) && value.dict() == nullptr;
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
  if (container.list() != nullptr && container.list_kind() == ListKind::kKeys && !is_hashable(value)) {
    context.fail("a ", value.type_name(), " is no key");
  } else if (container.list() != nullptr) {
    context.charge(container.list()->size() / 16);
    return std::ranges::any_of(*container.list(), [&](const Value& item) { return equal(context, item, value); });
  }
  if (container.dict() != nullptr && !is_hashable(value)) {
    context.fail("a ", value.type_name(), " is no key");
    return false;
  }
  if (container.dict() != nullptr) return value.string() != nullptr && container.dict()->find(value.string()->text());
  if (Generator* generator = container.generator()) {  // takes up to what it finds
    while (generator->next < generator->items.size() && !context.failed()) {
      if (equal(context, generator->items[generator->next++], value)) return true;
    }
    return false;
  }
  if (!container.is_undefined()) context.fail("a value in a ", container.type_name());
  return false;
}

std::shared_ptr<const List> iterate(Context& context, const Value& value) {
  if (auto items = value.shared_list()) return items;
  List out;
  if (Generator* generator = value.generator()) {
    if (context.charge_items(generator->items.size() - generator->next)) {
      out.assign(generator->items.begin() + static_cast<ptrdiff_t>(generator->next), generator->items.end());
    }
    generator->next = generator->items.size();
    return std::make_shared<const List>(std::move(out));
  }
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
