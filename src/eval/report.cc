// Sums, and words around them.
#include "eval/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "eval/statistics.h"

namespace hearth {
namespace {

struct Tally {
  int64_t right = 0, total = 0;
  void add(bool correct) { right += correct, ++total; }
  double share() const { return static_cast<double>(right) / static_cast<double>(total); }
  double error() const { return standard_error(right, total); }
};

template <typename... Args>
std::string format(const char* pattern, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, pattern, args...);
  return buffer;
}

const Json* list_of(const Json& report, const char* key) {
  const auto it = report.find(key);
  return it != report.end() && it->is_array() && !it->empty() ? &*it : nullptr;
}

double number(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() ? it->get<double>() : NAN;
}

// The mean negative log-likelihood of a token: its difference, window by window.
Result<std::string> compare_windows(const Json& first, const Json& second) {
  double scored = 0, difference = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    if (!(number(first[i], "scored") == number(second[i], "scored"))) return invalid("the files' windows differ");
    scored += number(first[i], "scored");
    difference += number(second[i], "nll") - number(first[i], "nll");
  }
  const double mean = difference / scored;
  double squares = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    const double off = number(second[i], "nll") - number(first[i], "nll") - mean * number(first[i], "scored");
    squares += off * off;
  }
  const auto n = static_cast<double>(first.size());
  const double error = n > 1 ? std::sqrt(squares * n / (n - 1)) / scored : 0;
  return format("perplexity %+.3f%% +- %.3f%% over %.0f tokens in %zu windows\n", std::expm1(mean) * 100, error * 100,
                scored, first.size());
}

// The largest and the mean difference of two log-probabilities; empty where there are none.
std::string compare_logprobs(const Json& first, const Json& second) {
  double largest = 0, sum = 0;
  int64_t count = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    const Json *a = list_of(first[i], "logprobs"), *b = list_of(second[i], "logprobs");
    if (a == nullptr || b == nullptr || a->size() != b->size()) return {};
    for (size_t c = 0; c < a->size(); ++c) {
      if (!(*a)[c].is_number() || !(*b)[c].is_number()) return {};
      const double apart = std::abs((*a)[c].get<double>() - (*b)[c].get<double>());
      largest = std::max(largest, apart), sum += apart, ++count;
    }
  }
  return format("log-probabilities apart by %.4f in the mean, %.4f at most\n", sum / static_cast<double>(count),
                largest);
}

std::string compare_answers(const Json& first, const Json& second) {
  PairedDifference pairs;
  int64_t right_first = 0, right_second = 0;
  std::string flipped;
  for (size_t i = 0; i < first.size(); ++i) {
    const bool a = first[i].value("correct", false), b = second[i].value("correct", false);
    ++pairs.total, right_first += a, right_second += b;
    pairs.only_first += a && !b, pairs.only_second += b && !a;
    if (a != b) flipped += cat(flipped.empty() ? "" : ", ", i, b ? "+" : "-");
  }
  const Tally one{right_first, pairs.total}, two{right_second, pairs.total};
  return format("accuracy %.2f%% and %.2f%%: %+.2f points +- %.2f, McNemar's p = %.3g\n", one.share() * 100,
                two.share() * 100, pairs.difference() * 100, pairs.standard_error() * 100, pairs.p_value()) +
         format("of %lld answers %lld became right and %lld wrong", static_cast<long long>(pairs.total),
                static_cast<long long>(pairs.only_second), static_cast<long long>(pairs.only_first)) +
         (flipped.empty() ? "\n" : cat(": ", flipped, "\n"));
}

}  // namespace

Json choices_report(std::span<const Question> questions, std::span<const QuestionScore> scores) {
  Tally all, by_byte;
  std::map<std::string, Tally> subjects;
  Json list = Json::array();
  for (size_t i = 0; i < questions.size(); ++i) {
    const bool correct = scores[i].chosen == questions[i].answer;
    all.add(correct);
    by_byte.add(scores[i].chosen_by_byte == questions[i].answer);
    if (!questions[i].subject.empty()) subjects[questions[i].subject].add(correct);
    list.push_back({{"subject", questions[i].subject},
                    {"logprobs", scores[i].logprobs},
                    {"chosen", scores[i].chosen},
                    {"answer", questions[i].answer},
                    {"correct", correct}});
  }
  Json by_subject = Json::object();
  for (const auto& [name, tally] : subjects) {
    by_subject[name] = {{"accuracy", tally.share()}, {"standard_error", tally.error()}, {"questions", tally.total}};
  }
  return {{"accuracy", all.share()},
          {"standard_error", all.error()},
          {"accuracy_by_byte", by_byte.share()},
          {"by_subject", std::move(by_subject)},
          {"questions", std::move(list)}};
}

Json problems_report(std::span<const WordProblem> problems, std::span<const std::string> said) {
  Tally all;
  Json list = Json::array();
  for (size_t i = 0; i < problems.size(); ++i) {
    const bool correct = said[i] == problems[i].answer;
    all.add(correct);
    list.push_back({{"said", said[i]}, {"answer", problems[i].answer}, {"correct", correct}});
  }
  return {{"accuracy", all.share()}, {"standard_error", all.error()}, {"questions", std::move(list)}};
}

std::string describe(const Json& report) {
  std::string out;
  if (const auto subjects = report.find("by_subject"); subjects != report.end() && subjects->size() > 1) {
    for (const auto& [name, subject] : subjects->items()) {
      out += format("%-40.60s %6.2f%% +- %5.2f  of %.0f\n", name.c_str(), number(subject, "accuracy") * 100,
                    number(subject, "standard_error") * 100, number(subject, "questions"));
    }
  }
  return out + format("accuracy %.2f%% +- %.2f of %zu questions\n", number(report, "accuracy") * 100,
                      number(report, "standard_error") * 100, report.at("questions").size());
}

Result<std::string> compare_reports(const Json& first, const Json& second) {
  for (const char* key : {"windows", "questions"}) {
    const Json *a = list_of(first, key), *b = list_of(second, key);
    if (a == nullptr && b == nullptr) continue;
    if (a == nullptr || b == nullptr || a->size() != b->size()) return invalid("the files' ", key, " differ in number");
    for (const Json* list : {a, b}) {
      for (const Json& entry : *list) {
        if (!entry.is_object()) return invalid(key, ": expected objects");
      }
    }
    if (std::string_view(key) == "windows") return compare_windows(*a, *b);
    for (size_t i = 0; i < a->size(); ++i) {
      for (const char* same : {"answer", "subject"}) {
        if ((*a)[i].value(same, Json()) != (*b)[i].value(same, Json())) {
          return invalid("the files are not of the same questions: number ", i, " differs");
        }
      }
    }
    return compare_answers(*a, *b) + compare_logprobs(*a, *b);
  }
  return invalid("expected two files that hearth eval wrote");
}

}  // namespace hearth
