// Checks of type and range.
#include "models/config_fields.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace hearth {

const Json* ConfigFields::find(const char* name) const {
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

bool ConfigFields::mentions(const char* name) const { return object_.contains(name); }

Result<int64_t> ConfigFields::integer(const char* name, int64_t least, int64_t most,
                                      std::optional<int64_t> fallback) const {
  const Json* value = find(name);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) ||
      value->get<int64_t>() < least || value->get<int64_t>() > most) {
    return wrong(name, cat("an integer from ", least, " to ", most));
  }
  return value->get<int64_t>();
}

Result<double> ConfigFields::positive(const char* name, std::optional<double> fallback) const {
  const Json* value = find(name);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>())) {
    return wrong(name, "a number above 0");
  }
  return value->get<double>();
}

Result<bool> ConfigFields::boolean(const char* name, bool fallback) const {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return wrong(name, "true or false");
  return value->get<bool>();
}

Result<std::string> ConfigFields::string(const char* name, std::optional<std::string> fallback) const {
  const Json* value = find(name);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_string()) return wrong(name, "a string");
  return value->get<std::string>();
}

Result<std::vector<int32_t>> ConfigFields::ids(const char* name, int64_t vocab) const {
  std::vector<int32_t> out;
  const Json* value = find(name);
  if (value == nullptr) return out;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > 1024) return wrong(name, "at most 1024 token ids");
  for (const Json& id : list) {
    // Non-negative integers are unsigned in this parser; -1 stands for none.
    const bool is_id = id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(vocab);
    if (!is_id && !(id.is_number_integer() && id == -1)) return wrong(name, cat("token ids below ", vocab));
    if (is_id) out.push_back(id.get<int32_t>());
  }
  return out;
}

Result<std::vector<std::string>> ConfigFields::strings(const char* name, int64_t count) const {
  std::vector<std::string> out;
  const Json* value = find(name);
  if (value == nullptr) return out;
  if (!value->is_array() || static_cast<int64_t>(value->size()) != count) return wrong(name, cat(count, " strings"));
  for (const Json& entry : *value) {
    if (!entry.is_string()) return wrong(name, cat(count, " strings"));
    out.push_back(entry.get<std::string>());
  }
  return out;
}

Result<std::vector<int64_t>> ConfigFields::integers(const char* name, int64_t most) const {
  std::vector<int64_t> out;
  const Json* value = find(name);
  if (value == nullptr) return out;
  const std::string expected = cat("at most ", most, " integers of 0 or more");
  if (!value->is_array() || static_cast<int64_t>(value->size()) > most) return wrong(name, expected);
  for (const Json& entry : *value) {
    if (!entry.is_number_unsigned() || entry.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      return wrong(name, expected);
    }
    out.push_back(entry.get<int64_t>());
  }
  return out;
}

Status ConfigFields::refuse(const char* name) const {
  HEARTH_ASSIGN(const bool value, boolean(name, false));
  return value ? unimplemented(where_, ": ", name, ": expected false, found true") : Status();
}

Status ConfigFields::wrong(const char* name, std::string_view expected) const {
  const Json* value = find(name);
  std::string found = "nothing";
  if (value != nullptr) found = value->is_number() ? value->dump() : cat("a ", value->type_name());
  return invalid(where_, ": ", name, ": expected ", expected, ", found ", found);
}

Result<int64_t> GgufFields::integer(std::string_view key, int64_t most, std::optional<int64_t> fallback) const {
  HEARTH_ASSIGN(const int64_t value, file_.integer(name(key), fallback));
  if (value >= 1 && value <= most) return value;
  if (fallback && value == *fallback) return value;  // it may be 0: "not there"
  return invalid(file_.path(), ": ", name(key), ": expected an integer from 1 to ", most, ", found ", value);
}

Result<double> GgufFields::number(std::string_view key, std::optional<double> fallback) const {
  return file_.number(name(key), fallback);
}

Result<std::string_view> GgufFields::string(std::string_view key, std::string_view fallback) const {
  return file_.string(name(key), fallback);
}

}  // namespace hearth
