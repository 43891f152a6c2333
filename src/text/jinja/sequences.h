// Filters that take apart, choose from and order lists.
#pragma once

#include <optional>

#include "text/jinja/arguments.h"
#include "text/jinja/value.h"

namespace hearth::jinja {

std::optional<int64_t> parse_integer(std::string_view text);

// What filters do to each item before they look at it: an attribute ("a.b.0", or an index), a default where that is
// undefined, and small letters where case does not matter.
struct ItemKey {
  const Value* attribute = nullptr;  // null or None: the item itself
  const Value* otherwise = nullptr;
  bool case_sensitive = true;
  Value of(Context& context, const Value& item) const;
};

List batch(Context& context, const List& items, int64_t count, const Value* fill);
List slices(Context& context, const List& items, int64_t count, const Value* fill);
// By one attribute or by several with commas between them. `as_list`: equal keys need no order, as Python's lists'.
List sorted(Context& context, const List& items, const Value* attribute, bool case_sensitive, bool reverse,
            bool as_list);
List grouped(Context& context, const List& items, const ItemKey& key);
List unique(Context& context, const List& items, const ItemKey& key);
// The first item whose key is the least (wanted -1) or greatest (1); undefined of none.
Value extreme(Context& context, const List& items, const ItemKey& key, int wanted);
// select, reject, selectattr, rejectattr: (an attribute,) a test's name and arguments follow.
List select(Context& context, const Value& input, const Arguments& given, bool by_attribute, bool wanted);
// A filter's name and arguments, or attribute= and default=.
List map(Context& context, const Value& input, const Arguments& given);

}  // namespace hearth::jinja
