// Tool: a function that a request offers, its parameters' schema checked.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"

namespace hearth {

struct Tool {
  std::string name;
  Json parameters;  // plain (grammar/json_schema.h), an object's
};

// How a parameter's value stands in a format that writes it outside of JSON.
enum class ValueStyle { kRaw, kJson };
// Strings stand as they are, all else as JSON. A string that must be of some length is written as JSON too.
ValueStyle value_style(const Json& plain);
// The schema of one parameter; null: not declared.
const Json* parameter_schema(const Json& parameters, std::string_view name);

}  // namespace hearth
