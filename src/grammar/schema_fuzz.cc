// Fuzz target: any JSON Schema is compiled or refused; what its grammar lets through is JSON.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/json.h"
#include "grammar/fuzz_walk.h"
#include "grammar/json_schema.h"

using namespace hearth;

// The first bytes choose the way through the grammar, the rest is the schema.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kFuzzChoices) return 0;
  const std::string_view choices(reinterpret_cast<const char*>(data), kFuzzChoices);
  const std::string schema(reinterpret_cast<const char*>(data) + kFuzzChoices, size - kFuzzChoices);
  const auto text = fuzz_walk({GrammarSpec::Kind::kJsonSchema, schema}, choices);
  if (text) HEARTH_CHECK(parse_json(*text, {.root_must_be_object = false}).ok());
  // What is left of one that is refused is taken.
  if (auto json = parse_json(schema, {.root_must_be_object = false}); json.ok()) {
    HEARTH_CHECK(plain_schema(*json).ok() || schema_that_can_be_kept(*json).is_object());
  }
  return 0;
}
