// What an evaluation found: printed for people, written as JSON for `hearth eval compare` and scripts.
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "eval/scorer.h"

namespace hearth {

// {"accuracy", "standard_error", "accuracy_by_byte", "by_subject": {NAME: {"accuracy", "standard_error", "questions"}},
// "questions": [{"subject", "logprobs", "chosen", "answer", "correct"}]}
Json choices_report(std::span<const Question> questions, std::span<const QuestionScore> scores);

// {"accuracy", "standard_error", "questions": [{"said", "answer", "correct"}]}
Json problems_report(std::span<const WordProblem> problems, std::span<const std::string> said);

// One line a subject where there are several, and one for all.
std::string describe(const Json& report);

// Two reports over the same questions: the difference, its error, McNemar's p, which answers flipped; of choices, how
// far the log-probabilities are apart; of `eval perplexity`'s files, the windows' difference. Refused where the
// questions differ.
Result<std::string> compare_reports(const Json& first, const Json& second);

}  // namespace hearth
