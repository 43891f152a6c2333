// GrammarSpec: what a request says its answer must look like, before it is compiled.
#pragma once

#include <compare>
#include <string>

namespace hearth {

struct GrammarSpec {
  enum class Kind {
    kJsonSchema,     // text: a JSON Schema
    kRegex,          // text: the whole answer matches it
    kChoice,         // text: a JSON list of strings, one of which the answer is
    kEbnf,           // text: rules "name ::= ...", one of them called root
    kStructuralTag,  // text: a structural tag (structural_tag.h) as JSON
    kOwnEbnf,        // a whole grammar made by us, and so not checked
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  auto operator<=>(const GrammarSpec&) const = default;
};

}  // namespace hearth
