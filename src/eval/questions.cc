// Reading, and the prompts' texts.
#include "eval/questions.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
constexpr int64_t kMaxChoices = 64;

// Calls f with every line's object; an error of f is prefixed with file and line.
Status for_each_line(const std::filesystem::path& file, const std::function<Status(const Json&)>& f) {
  HEARTH_ASSIGN(const std::string text, read_text_file(file, kMaxFileBytes));
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    if (line.find_first_not_of(" \r\t") == line.npos) continue;
    const Result<Json> value = parse_json(line);
    const Status status = value.ok() ? f(*value) : value.status();
    if (!status.ok()) return status.prefixed(cat(file.string(), ", line ", number));
  }
  return {};
}

Result<std::string> text_of(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string()) return invalid(key, ": expected a text");
  return it->get<std::string>();
}

// A line of a file of choices.
struct Line {
  std::string subject, question;
  std::vector<std::string> choices;
  int64_t answer = 0;
};

Result<Line> parse_line(const Json& object) {
  Line out;
  HEARTH_ASSIGN(out.question, text_of(object, "question"));
  if (object.contains("subject")) {
    HEARTH_ASSIGN(out.subject, text_of(object, "subject"));
  }
  const auto choices = object.find("choices");
  if (choices == object.end() || !choices->is_array() || choices->size() < 2 ||
      choices->size() > static_cast<size_t>(kMaxChoices)) {
    return invalid("choices: expected 2 to ", kMaxChoices, " texts");
  }
  for (const Json& choice : *choices) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      return invalid("choices: expected texts that are not empty");
    }
    out.choices.push_back(choice.get<std::string>());
  }
  const auto answer = object.find("answer");
  if (answer == object.end() || !answer->is_number_integer() || *answer < 0 ||
      *answer >= static_cast<int64_t>(out.choices.size())) {
    return invalid("answer: expected the index of a choice");
  }
  out.answer = answer->get<int64_t>();
  return out;
}

std::string letter(int64_t index) { return std::string(1, static_cast<char>('A' + index)); }

// The question and its choices, up to "Answer:".
std::string mmlu_question(const Line& line) {
  std::string out = line.question + "\n";
  for (size_t i = 0; i < line.choices.size(); ++i) {
    out += cat(letter(static_cast<int64_t>(i)), ". ", line.choices[i], "\n");
  }
  return out + "Answer:";
}

std::string mmlu_heading(std::string subject) {
  std::ranges::replace(subject, '_', ' ');
  return cat("The following are multiple choice questions (with answers) about ", subject, ".\n\n");
}

Result<Line> parse_mmlu_line(const Json& object) {
  HEARTH_ASSIGN(Line line, parse_line(object));
  if (line.subject.empty()) return invalid("subject: expected a text");
  if (line.choices.size() != 4) return invalid("choices: expected four, found ", line.choices.size());
  return line;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string gsm8k_question(const std::string& question) { return cat("Question: ", question, "\nAnswer:"); }

}  // namespace

Result<std::vector<Question>> read_choices(const std::filesystem::path& file) {
  std::vector<Question> out;
  HEARTH_TRY(for_each_line(file, [&](const Json& object) -> Status {
    HEARTH_ASSIGN(Line line, parse_line(object));
    Question question{std::move(line.subject), std::move(line.question), {}, line.answer};
    for (const std::string& choice : line.choices) question.continuations.push_back(" " + choice);
    out.push_back(std::move(question));
    return {};
  }));
  if (out.empty()) return invalid(file.string(), ": expected a question a line, found none");
  return out;
}

Result<std::vector<Question>> read_mmlu(const std::filesystem::path& folder, int64_t shots, int64_t limit) {
  struct Subject {
    std::string heading;
    int64_t shots = 0, questions = 0;
  };
  std::map<std::string, Subject> subjects;
  HEARTH_TRY(for_each_line(folder / "dev.jsonl", [&](const Json& object) -> Status {
    HEARTH_ASSIGN(const Line line, parse_mmlu_line(object));
    Subject& subject = subjects.try_emplace(line.subject, Subject{mmlu_heading(line.subject)}).first->second;
    if (subject.shots == shots) return {};
    ++subject.shots;
    subject.heading += cat(mmlu_question(line), " ", letter(line.answer), "\n\n");
    return {};
  }));
  std::vector<Question> out;
  HEARTH_TRY(for_each_line(folder / "test.jsonl", [&](const Json& object) -> Status {
    HEARTH_ASSIGN(const Line line, parse_mmlu_line(object));
    Subject& subject = subjects.try_emplace(line.subject, Subject{mmlu_heading(line.subject)}).first->second;
    if (subject.shots < shots) {
      return invalid("its subject has ", subject.shots, " questions in dev.jsonl, and ", shots, " shots are asked for");
    }
    if (limit > 0 && subject.questions == limit) return {};
    ++subject.questions;
    out.push_back({line.subject, subject.heading + mmlu_question(line), {" A", " B", " C", " D"}, line.answer});
    return {};
  }));
  if (out.empty()) return invalid((folder / "test.jsonl").string(), ": expected a question a line, found none");
  return out;
}

Result<std::vector<WordProblem>> read_gsm8k(const std::filesystem::path& folder, int64_t shots, int64_t limit) {
  std::string heading;
  int64_t found = 0;
  HEARTH_TRY(for_each_line(folder / "fewshot_pool.jsonl", [&](const Json& object) -> Status {
    HEARTH_ASSIGN(const std::string question, text_of(object, "question"));
    HEARTH_ASSIGN(const std::string answer, text_of(object, "answer"));
    if (found == shots) return {};
    ++found;
    heading += cat(gsm8k_question(question), " ", answer, "\n\n");
    return {};
  }));
  if (found < shots) {
    return invalid((folder / "fewshot_pool.jsonl").string(), ": has ", found, " lines, and ", shots,
                   " shots are asked for");
  }
  std::vector<WordProblem> out;
  HEARTH_TRY(for_each_line(folder / "test.jsonl", [&](const Json& object) -> Status {
    HEARTH_ASSIGN(const std::string question, text_of(object, "question"));
    HEARTH_ASSIGN(const std::string answer, text_of(object, "answer"));
    const size_t mark = answer.rfind("####");
    const std::string number = mark == answer.npos ? "" : last_number(std::string_view(answer).substr(mark));
    if (number.empty()) return invalid("answer: expected a number behind ####");
    if (limit == 0 || std::ssize(out) < limit) out.push_back({heading + gsm8k_question(question), number});
    return {};
  }));
  if (out.empty()) return invalid((folder / "test.jsonl").string(), ": expected a problem a line, found none");
  return out;
}

std::string last_number(std::string_view text) {
  size_t end = text.size();
  while (end > 0 && !is_digit(text[end - 1])) --end;
  size_t begin = end;
  // Digits, and what may stand between two of them.
  while (begin > 0 && (is_digit(text[begin - 1]) || ((text[begin - 1] == ',' || text[begin - 1] == '.') && begin > 1 &&
                                                     is_digit(text[begin - 2])))) {
    --begin;
  }
  std::string out;
  for (const char c : text.substr(begin, end - begin)) {
    if (c != ',') out += c;
  }
  // Two points are no number: the part behind the last but one counts.
  for (size_t dot = out.find('.'); dot != out.npos && out.find('.', dot + 1) != out.npos; dot = out.find('.')) {
    out.erase(0, dot + 1);
  }
  const size_t sign = out.empty() ? 0 : begin;
  size_t before = sign;
  if (before > 0 && text[before - 1] == '$') --before;
  const bool negative = !out.empty() && before > 0 && text[before - 1] == '-' &&
                        (before == 1 || !(is_digit(text[before - 2]) || text[before - 2] == ')'));
  if (out.find('.') != out.npos) {
    while (out.back() == '0') out.pop_back();
    if (out.back() == '.') out.pop_back();
  }
  const size_t first = out.find_first_not_of('0');
  if (first == out.npos) return out.empty() ? "" : "0";
  out.erase(0, out[first] == '.' ? first - 1 : first);
  return (negative && out != "0" ? "-" : "") + out;
}

}  // namespace hearth
