// GrammarSpec: what a request says its answer must look like, before it is compiled.
#pragma once

#include <compare>
#include <string>

namespace hearth {

struct GrammarSpec {
  enum class Kind {
    kJsonSchema,  // text: a JSON Schema
    kRegex,       // text: the whole answer matches it
    kEbnf,        // text: rules "name ::= ...", the first is called root
    kOwnEbnf,     // the same, made by us and so not checked
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  auto operator<=>(const GrammarSpec&) const = default;
};

}  // namespace hearth
