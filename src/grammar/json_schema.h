// What is checked of a JSON Schema before a grammar is made of it, and its plain form: every keyword in it is one that
// the grammar keeps. Whatever the grammar allows is valid by the schema; the grammar may allow less (properties come in
// the order in which they are declared, undeclared ones only where additionalProperties says so or none is declared).
#pragma once

#include "base/json.h"

namespace hearth {

struct SchemaLimits {
  int64_t max_depth = 64;
  int64_t max_nodes = 4000;        // subschemas
  int64_t max_enum_values = 2000;  // of all enums
  int64_t max_enum_bytes = 64 << 10;
  int64_t max_items = 4096;      // minItems, maxItems
  int64_t max_length = 1 << 20;  // maxLength
  int64_t max_min_length = 256;  // minLength
};

// The plain form, or a refusal that names the keyword and where it stands.
Result<Json> plain_schema(const Json& schema, const SchemaLimits& limits = {});

// The plain form without the keywords that would be refused; {} where nothing can be kept.
Json schema_that_can_be_kept(const Json& schema, const SchemaLimits& limits = {});

}  // namespace hearth
