// EbnfWriter: a grammar's rules as text, in the EBNF that the compiler reads. Elements are strings: what rule(),
// literal() and the rest return is put together with spaces, " | " and parentheses.
#pragma once

#include <string>
#include <string_view>

#include "base/cat.h"

namespace hearth {

class EbnfWriter {
 public:
  // A text as it is.
  static std::string literal(std::string_view text);

  // A new rule; its name. `options`: "max_tokens=5".
  std::string rule(std::string_view body, std::string_view options = {}) {
    const std::string name = reserve();
    define(name, body, options);
    return name;
  }
  // For rules that refer to themselves: a name now, its body later.
  std::string reserve() { return cat("hearth_", count_++); }
  void define(std::string_view name, std::string_view body, std::string_view options = {}) {
    append(rules_, name);
    if (!options.empty()) rules_ += cat("[", options, "]");
    rules_ += cat(" ::= ", body, "\n");
  }
  // The whole grammar.
  std::string grammar(std::string_view root) const { return cat("root ::= ", root, "\n", rules_); }

 private:
  std::string rules_;
  int64_t count_ = 0;
};

}  // namespace hearth
