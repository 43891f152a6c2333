// Questions with a choice of answers: read from JSON lines, and written as the prompts that published figures mean.
// Sources: Hendrycks et al. 2021 (MMLU); lm-evaluation-harness for how a context and a continuation become tokens.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/status.h"

namespace hearth {

struct Question {
  std::string subject;  // empty where the file names none
  std::string context;  // ends where the answer begins
  // What is compared: each choice as it continues the context.
  std::vector<std::string> continuations;
  int64_t answer = 0;  // the right one, from 0
};

// A line: {"question": TEXT, "choices": [TEXT, ...], "answer": INDEX} and perhaps "subject". The context is the
// question, a continuation is a space and the choice. Errors name the line.
Result<std::vector<Question>> read_choices(const std::filesystem::path& file);

// A folder with test.jsonl and dev.jsonl (lines as above, with four choices and a subject). The context is the heading,
// the subject's first `shots` questions of dev.jsonl with their answers, and the question with its choices as letters;
// the continuations are the letters. `limit` > 0: of each subject, that many questions.
Result<std::vector<Question>> read_mmlu(const std::filesystem::path& folder, int64_t shots, int64_t limit);

// A word problem whose answer is a number.
struct WordProblem {
  std::string prompt;
  std::string answer;  // a plain number, see last_number
};
// A folder with test.jsonl and fewshot_pool.jsonl, lines of {"question": TEXT, "answer": TEXT} where the number follows
// "####". The shots are the pool's first.
Result<std::vector<WordProblem>> read_gsm8k(const std::filesystem::path& folder, int64_t shots, int64_t limit);

// The last number of a text, without currency signs, thousands' separators and zeros that say nothing ("$1,080.50."
// gives "1080.5"); empty where there is none.
std::string last_number(std::string_view text);

}  // namespace hearth
