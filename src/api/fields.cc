// Typed reads of JSON fields, without exceptions.
#include "api/fields.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace hearth {

Result<OwnedJson> parse_body(std::string_view body) {
  int64_t bytes_left = 128 << 20;
  HEARTH_ASSIGN(Json json, parse_json(body, {.bytes_left = &bytes_left}));
  return OwnedJson(new Json(std::move(json)));
}

bool to_integer(const Json& value, int64_t min, int64_t max, int64_t& out) {
  int64_t v;
  if (value.is_number_unsigned()) {
    const auto u = value.get<uint64_t>();
    if (u > static_cast<uint64_t>(INT64_MAX)) return false;
    v = static_cast<int64_t>(u);
  } else if (value.is_number_integer()) {
    v = value.get<int64_t>();
  } else if (value.is_number_float()) {
    const auto d = value.get<double>();
    if (std::trunc(d) != d || std::fabs(d) > 9007199254740992.0) return false;
    v = static_cast<int64_t>(d);
  } else {
    return false;
  }
  if (v < min || v > max) return false;
  out = v;
  return true;
}

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  HEARTH_CHECK(object.is_object());
}

std::string Fields::full_name(std::string_view name) const {
  if (path_.empty()) return std::string(name);
  return name.empty() ? path_ : cat(path_, ".", name);
}

void Fields::refuse(std::string_view name, std::string_view why) {
  const std::string full = full_name(name);
  fail(invalid(full, " ", why).with_param(full));
}

void Fields::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

const Json* Fields::get(std::string_view name) const {
  if (!ok()) return nullptr;
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

void Fields::read(std::string_view name, bool& out) {
  const Json* value = get(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return refuse(name, "must be a boolean");
  out = value->get<bool>();
}

void Fields::read(std::string_view name, std::string& out) {
  const Json* value = get(name);
  if (value == nullptr) return;
  if (!value->is_string()) return refuse(name, "must be a string");
  out = value->get_ref<const std::string&>();
}

void Fields::read(std::string_view name, int64_t& out, int64_t min, int64_t max) {
  const Json* value = get(name);
  if (value == nullptr || to_integer(*value, min, max, out)) return;
  if (max == INT64_MAX) return refuse(name, cat("must be an integer, at least ", min));
  refuse(name, cat("must be an integer from ", min, " to ", max));
}

void Fields::read(std::string_view name, int32_t& out, int32_t min, int32_t max) {
  int64_t wide = out;
  read(name, wide, min, max);
  out = static_cast<int32_t>(wide);
}

void Fields::read(std::string_view name, float& out, double min, double max) {
  const Json* value = get(name);
  if (value == nullptr) return;
  const double v = value->is_number() ? value->get<double>() : std::nan("");
  if (!(v >= min && v <= max)) return refuse(name, cat("must be a number from ", min, " to ", max));
  out = static_cast<float>(v);
}

}  // namespace hearth
