// Every list made is paid for item by item, before the item is.
#include "text/jinja/sequences.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/python_text.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

struct Keyed {
  List keys;
  Value value;
};

// Where keys are a list, as sort's are, equal ones need no order.
int compare_keys(Context& context, const List& a, const List& b, bool as_list) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (as_list && equal(context, a[i], b[i])) continue;
    if (const int order = compare(context, a[i], b[i]); order != 0) return order;
  }
  return 0;
}

// Sorting by a broken order is undefined behavior: NaN has none, and every pair must have one.
void stable_sort(Context& context, std::vector<Keyed>& items, bool as_list, bool reverse) {
  for (size_t i = 0; i < items.size() && !context.failed(); ++i) {
    for (const Value& key : items[i].keys) {
      if (key.real() && std::isnan(*key.real())) context.fail("NaN has no order");
    }
    if (i > 0) compare_keys(context, items[0].keys, items[i].keys, as_list);
  }
  if (context.failed() || !context.charge(items.size() * 16)) return;
  std::ranges::stable_sort(items, [&](const Keyed& a, const Keyed& b) {
    return (reverse ? compare_keys(context, b.keys, a.keys, as_list) : compare_keys(context, a.keys, b.keys, as_list)) <
           0;
  });
}

std::string take_name(Context& context, Arguments& given, const char* what) {
  if (given.positional.empty() || given.positional[0].string() == nullptr) {
    context.fail("select and map take ", what);
    return {};
  }
  std::string name = given.positional[0].string()->text();
  given.positional.erase(given.positional.begin());
  return name;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Value ItemKey::of(Context& context, const Value& value) const {
  Value key = value;
  const auto or_default = [&] {
    if (key.is_undefined() && otherwise != nullptr && !otherwise->is_none()) key = *otherwise;
  };
  if (attribute != nullptr && !attribute->is_none()) {
    const MarkedString* path = attribute->string();
    if (path == nullptr) {
      key = item(context, key, *attribute);
      or_default();
    }
    for (std::string_view names = path ? std::string_view(path->text()) : ""; path != nullptr && !context.failed();) {
      const size_t dot = names.find('.');
      const std::string_view name = names.substr(0, dot);
      const auto index = is_digits(name) ? parse_integer(name) : std::nullopt;
      key = index ? item(context, key, *index) : item(context, key, Value::text(name));
      or_default();
      if (dot == names.npos) break;
      names.remove_prefix(dot + 1);
    }
  }
  return !case_sensitive && key.string() != nullptr ? Value(lower(context, *key.string())) : key;
}

List batch(Context& context, const List& items, int64_t count, const Value* fill) {
  List out, part;
  const bool fills = fill != nullptr && !fill->is_none() && count > 0;
  if (fills && !context.charge_items(static_cast<size_t>(count))) return out;
  for (const Value& value : items) {
    if (!context.charge_items(2)) return {};
    if (static_cast<int64_t>(part.size()) == count) out.push_back(std::exchange(part, {}));
    part.push_back(value);
  }
  if (part.empty()) return out;
  if (fills) part.resize(static_cast<size_t>(count), *fill);
  out.push_back(std::move(part));
  return out;
}

List slices(Context& context, const List& items, int64_t count, const Value* fill) {
  List out;
  if (count < 1) context.fail("slice takes a number above 0");
  if (context.failed()) return out;
  const auto parts = static_cast<size_t>(count);
  const size_t each = items.size() / parts, longer = items.size() % parts;
  auto next = items.begin();
  for (size_t i = 0; i < parts; ++i) {
    const size_t size = each + (i < longer);
    if (!context.charge_items(size + 4)) return {};
    List part(next, next + static_cast<ptrdiff_t>(size));
    next += static_cast<ptrdiff_t>(size);
    if (fill != nullptr && !fill->is_none() && i >= longer) part.push_back(*fill);
    out.push_back(std::move(part));
  }
  return out;
}

List sorted(Context& context, const List& items, const Value* attribute, bool case_sensitive, bool reverse,
            bool as_list) {
  std::vector<Value> attributes;
  if (attribute != nullptr && attribute->string() != nullptr) {
    for (std::string_view names = attribute->string()->text();;) {
      attributes.push_back(Value::text(names.substr(0, names.find(','))));
      if (names.find(',') == names.npos) break;
      names.remove_prefix(names.find(',') + 1);
    }
  } else {
    attributes.push_back(attribute == nullptr ? Value(None{}) : *attribute);
  }
  std::vector<Keyed> keyed;
  for (const Value& value : items) {
    if (!context.charge_items(2 + 2 * attributes.size())) return {};
    Keyed& entry = keyed.emplace_back(Keyed{{}, value});
    for (const Value& name : attributes) {
      entry.keys.push_back(ItemKey{&name, nullptr, case_sensitive}.of(context, value));
    }
  }
  stable_sort(context, keyed, as_list, reverse);
  List out;
  for (Keyed& entry : keyed) out.push_back(std::move(entry.value));
  return out;
}

List grouped(Context& context, const List& items, const ItemKey& key) {
  std::vector<Keyed> keyed;
  for (const Value& value : items) {
    if (!context.charge_items(10)) return {};
    keyed.push_back({{key.of(context, value)}, value});
  }
  stable_sort(context, keyed, false, false);
  List out;
  for (size_t i = 0; i < keyed.size() && !context.failed();) {
    List group;
    const size_t first = i;
    for (; i < keyed.size() && equal(context, keyed[i].keys[0], keyed[first].keys[0]); ++i) {
      group.push_back(keyed[i].value);
    }
    // The key of the first item, in its own case.
    ItemKey shown = key;
    shown.case_sensitive = true;
    Value name = shown.of(context, keyed[first].value);
    out.push_back(Value(List{std::move(name), Value(std::move(group))}, ListKind::kGroup));
  }
  return out;
}

List unique(Context& context, const List& items, const ItemKey& key) {
  List out, keys;
  for (const Value& value : items) {
    const Value wanted = key.of(context, value);
    if (!is_hashable(wanted)) context.fail("unique takes no ", wanted.type_name());
    if (!context.charge_items(2)) return {};
    if (std::ranges::any_of(keys, [&](const Value& known) { return equal(context, known, wanted); })) continue;
    keys.push_back(wanted);
    out.push_back(value);
  }
  return out;
}

Value extreme(Context& context, const List& items, const ItemKey& key, int wanted) {
  Value best, best_key;
  for (size_t i = 0; i < items.size() && !context.failed(); ++i) {
    Value found = key.of(context, items[i]);
    if (i > 0 && compare(context, found, best_key) != wanted) continue;
    best = items[i];
    best_key = std::move(found);
  }
  return best;
}

List select(Context& context, const Value& input, const Arguments& given, bool by_attribute, bool wanted) {
  List out;
  if (!input.truthy()) return out;  // none, too, is nothing to select from
  Arguments rest = given;
  const Value attribute = by_attribute ? Value::text(take_name(context, rest, "an attribute's name")) : Value(None{});
  const std::string test = rest.positional.empty() ? std::string() : take_name(context, rest, "a test's name");
  const auto items = iterate(context, input);
  const ItemKey key{&attribute};
  for (const Value& value : *items) {
    if (!context.charge_items(1)) break;
    const Value subject = key.of(context, value);
    if ((test.empty() ? subject.truthy() : apply_test(context, test, subject, rest)) == wanted) out.push_back(value);
  }
  return out;
}

List map(Context& context, const Value& input, const Arguments& given) {
  List out;
  if (!input.truthy()) return out;
  const bool by_attribute = given.positional.empty();
  const Arguments none{{None{}}, {}};
  const Bound named(context, "map", "attribute default?", by_attribute ? given : none);
  Arguments rest = given;
  const std::string filter = by_attribute ? std::string() : take_name(context, rest, "a filter's name");
  if (context.failed()) return out;
  const auto items = iterate(context, input);
  for (const Value& value : *items) {
    if (!context.charge_items(1)) break;
    out.push_back(by_attribute ? ItemKey{named[0], named[1]}.of(context, value)
                               : apply_filter(context, filter, value, rest));
  }
  return out;
}

}  // namespace hearth::jinja
