// Members of the JSON of tokenizer files, with a default where one is absent or of another type.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/json.h"

namespace hearth {

// Null where the key is absent or the value no object.
inline const Json& member(const Json& object, std::string_view key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}
inline bool flag(const Json& object, std::string_view key, bool otherwise = false) {
  const Json& value = member(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}
inline std::string text_of(const Json& object, std::string_view key, std::string_view otherwise = {}) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string(otherwise);
}

inline bool is_token_id(int64_t id) { return id >= 0 && id < (int64_t{1} << 31); }
// -1 where there is none.
inline int64_t id_of(const Json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() < (uint64_t{1} << 31) ? value.get<int64_t>() : -1;
}

}  // namespace hearth
