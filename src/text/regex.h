// Regular expressions of tokenizer files (Oniguruma's dialect) through PCRE2, bounded in steps and memory, all matches
// of a text together.
#pragma once

#include <memory>
#include <string_view>

#include "base/status.h"
#include "text/work_budget.h"

namespace hearth {

class Regex {
 public:
  struct Match {
    size_t begin, end;  // empty where nothing was found
  };
  static Result<Regex> compile(std::string_view pattern);
  // The first non-empty match at or after `from` in valid UTF-8.
  Result<Match> find(std::string_view text, size_t from, WorkBudget& budget) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;  // shared, so that a Regex copies; immutable
};

}  // namespace hearth
