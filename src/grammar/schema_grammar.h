// A plain JSON Schema (json_schema.h) as rules of a grammar: JSON as Python's json.dumps writes it, ", " and ": "
// between values, which is what models mostly saw; properties in the order in which they are declared.
#pragma once

#include "base/json.h"
#include "grammar/ebnf_writer.h"

namespace hearth {

// The element that a value of the schema is; its rules are written.
Result<std::string> write_schema(EbnfWriter& writer, const Json& plain);

// A known string format as an element, outside of JSON.
Result<std::string> format_element(const std::string& format);

}  // namespace hearth
