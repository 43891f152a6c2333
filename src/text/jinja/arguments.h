// Arguments of calls by place or name, with the type that the callee wants.
#pragma once

#include "text/jinja/value.h"

namespace hearth::jinja {

using Args = Arguments;

inline const MarkedString* string_argument(const Args& args, size_t place, std::string_view name) {
  const Value* value = args.get(place, name);
  return value == nullptr ? nullptr : value->string();
}
inline int64_t integer_argument(const Args& args, size_t place, std::string_view name, int64_t otherwise) {
  const Value* value = args.get(place, name);
  return value == nullptr ? otherwise : value->as_integer().value_or(otherwise);
}
inline bool flag_argument(const Args& args, size_t place, std::string_view name, bool otherwise = false) {
  const Value* value = args.get(place, name);
  return value == nullptr ? otherwise : value->truthy();
}

}  // namespace hearth::jinja
