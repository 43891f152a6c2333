#include <gtest/gtest.h>

#include <array>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cpu/cpu_backend.h"
#include "engine/model_runner.h"
#include "eval/report.h"
#include "eval/statistics.h"
#include "models/registry.h"
#include "text/test_vocabulary.h"
#include "weights/gguf.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

fs::path write(const std::string& name, const std::string& text) {
  const fs::path folder = fs::path(testing::TempDir()) / "hearth_eval_test";
  fs::create_directories((folder / name).parent_path());
  std::ofstream(folder / name) << text;
  return folder / name;
}

TEST(LastNumber, IsPlain) {
  EXPECT_EQ(last_number("so 3 + 4 = 7."), "7");
  EXPECT_EQ(last_number("costs $1,080.50."), "1080.5");
  EXPECT_EQ(last_number("#### 18.00"), "18");
  EXPECT_EQ(last_number("it fell to -3 degrees"), "-3");
  EXPECT_EQ(last_number("-$5"), "-5");
  EXPECT_EQ(last_number("10-3"), "3");
  EXPECT_EQ(last_number("007"), "7");
  EXPECT_EQ(last_number("0.50"), "0.5");
  EXPECT_EQ(last_number("-0"), "0");
  EXPECT_EQ(last_number("version 1.2.3"), "2.3");
  EXPECT_EQ(last_number("1,000,000"), "1000000");
  EXPECT_EQ(last_number("none"), "");
  EXPECT_EQ(last_number(""), "");
}

TEST(Statistics, AShareHasItsError) {
  EXPECT_NEAR(standard_error(50, 101), 0.05, 1e-5);
  EXPECT_EQ(standard_error(1, 1), 0);
  EXPECT_EQ(standard_error(7, 7), 0);
}

TEST(Statistics, McNemarsTestIsExact) {
  const PairedDifference pairs{.total = 100, .only_first = 1, .only_second = 9};
  EXPECT_NEAR(pairs.difference(), 0.08, 1e-12);
  EXPECT_NEAR(pairs.p_value(), 22.0 / 1024, 1e-12);  // 2 (1 + 10) / 2^10
  // The sample's own: 9 of +1, 1 of -1, 90 of 0.
  EXPECT_NEAR(pairs.standard_error(), std::sqrt((10 - 100 * 0.08 * 0.08) / 99 / 100), 1e-12);
  EXPECT_EQ((PairedDifference{.total = 5, .only_first = 2, .only_second = 2}.p_value()), 1);
  EXPECT_EQ((PairedDifference{.total = 5}.p_value()), 1);
}

TEST(Questions, MmluIsThePromptThatFiguresMean) {
  write(
      "mmlu/dev.jsonl",
      R"({"subject": "high_school_geography", "question": "Which is a river?", "choices": ["Nile", "Alps", "Oslo", "Peru"], "answer": 0})"
      "\n"
      R"({"subject": "high_school_geography", "question": "A second one.", "choices": ["a", "b", "c", "d"], "answer": 3})"
      "\n");
  const fs::path test = write(
      "mmlu/test.jsonl",
      R"({"subject": "high_school_geography", "question": "Which is a town?", "choices": ["Nile", "Alps", "Oslo", "Peru"], "answer": 2})"
      "\n\n");
  const auto questions = read_mmlu(test.parent_path(), 1, 0).value();
  ASSERT_EQ(questions.size(), 1u);
  EXPECT_EQ(questions[0].context,
            "The following are multiple choice questions (with answers) about high school geography.\n\n"
            "Which is a river?\nA. Nile\nB. Alps\nC. Oslo\nD. Peru\nAnswer: A\n\n"
            "Which is a town?\nA. Nile\nB. Alps\nC. Oslo\nD. Peru\nAnswer:");
  EXPECT_EQ(questions[0].continuations, (std::vector<std::string>{" A", " B", " C", " D"}));
  EXPECT_EQ(questions[0].answer, 2);
  const auto few = read_mmlu(test.parent_path(), 3, 0);
  EXPECT_NE(few.status().message().find("line 1: its subject has 2 questions in dev.jsonl, and 3 shots are asked for"),
            std::string::npos);
}

TEST(Questions, Gsm8kTakesTheNumberBehindTheMarks) {
  write("gsm8k/fewshot_pool.jsonl", R"({"question": "1+1?", "answer": "It is 2.\n#### 2"})");
  const fs::path test = write("gsm8k/test.jsonl", R"({"question": "2000+2?", "answer": "So\n#### 2,002"})");
  const auto problems = read_gsm8k(test.parent_path(), 1, 0).value();
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].prompt, "Question: 1+1?\nAnswer: It is 2.\n#### 2\n\nQuestion: 2000+2?\nAnswer:");
  EXPECT_EQ(problems[0].answer, "2002");
  EXPECT_FALSE(read_gsm8k(test.parent_path(), 2, 0).ok());
}

TEST(Questions, ABadLineIsNamed) {
  const auto refusal = [](const std::string& line) {
    const auto result = read_choices(write("choices.jsonl", R"({"question": "q", "choices": ["a", "b"], "answer": 1})"
                                                            "\n" +
                                                                line));
    EXPECT_FALSE(result.ok());
    const std::string& message = result.status().message();
    EXPECT_EQ(message.find('\n'), std::string::npos);
    const size_t at = message.find("line 2: ");
    return at == message.npos ? message : message.substr(at + 8);
  };
  EXPECT_EQ(refusal(R"({"question": "q", "choices": ["a", "b"], "answer": 2})"),
            "answer: expected the index of a choice");
  EXPECT_EQ(refusal(R"({"question": "q", "choices": ["a", "b"], "answer": 1.0})"),
            "answer: expected the index of a choice");
  EXPECT_EQ(refusal(R"({"question": "q", "choices": ["a"], "answer": 0})"), "choices: expected 2 to 64 texts");
  EXPECT_EQ(refusal(R"({"question": "q", "choices": ["a", ""], "answer": 0})"),
            "choices: expected texts that are not empty");
  EXPECT_EQ(refusal(R"({"choices": ["a", "b"], "answer": 0})"), "question: expected a text");
  EXPECT_NE(refusal("[1]"), "");
  EXPECT_FALSE(read_choices(write("empty.jsonl", "\n")).ok());
  EXPECT_FALSE(read_choices("no/such/file").ok());
}

Json report(std::initializer_list<bool> correct) {
  Json list = Json::array();
  for (const bool c : correct) list.push_back({{"answer", 1}, {"correct", c}, {"logprobs", {-1.0, c ? -0.5 : -2.0}}});
  return {{"questions", list}};
}

TEST(Compare, SaysWhichAnswersFlipped) {
  const std::string text =
      compare_reports(report({true, true, false, false}), report({true, false, true, true})).value();
  EXPECT_NE(text.find("accuracy 50.00% and 75.00%: +25.00 points"), std::string::npos) << text;
  EXPECT_NE(text.find("2 became right and 1 wrong: 1-, 2+, 3+"), std::string::npos) << text;
  EXPECT_NE(text.find("apart by 0.5625 in the mean, 1.5000 at most"), std::string::npos) << text;
}

TEST(Compare, RefusesOtherQuestions) {
  EXPECT_FALSE(compare_reports(report({true}), report({true, true})).ok());
  Json other = report({true});
  other["questions"][0]["answer"] = 2;
  EXPECT_FALSE(compare_reports(report({true}), other).ok());
  EXPECT_FALSE(compare_reports(Json::object(), Json::object()).ok());
  EXPECT_FALSE(compare_reports(report({true}), {{"questions", {1}}}).ok());
}

class CountingEngine final : public Engine {
 public:
  explicit CountingEngine(Engine& engine) : engine_(engine) {}
  Status submit(Request request) override { return ++requests, engine_.submit(std::move(request)); }
  void cancel(const std::string& id) override { engine_.cancel(id); }
  EngineStats stats() const override { return engine_.stats(); }
  Status health() const override { return engine_.health(); }
  void drain(Duration timeout) override { engine_.drain(timeout); }

  int64_t requests = 0;

 private:
  Engine& engine_;
};

// A real model: every log-likelihood is transformers', and so is every answer (tools/make_eval_golden.py).
TEST(Scorer, SmolLm2AnswersAsTransformersDoes) {
  const auto questions = read_choices("tests/golden/eval/questions.jsonl").value();
  const Json golden = parse_json(read_text_file("tests/golden/eval/smollm2_choices.json").value()).value();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr size_t kQuestions = 2;
#else
  constexpr size_t kQuestions = 60;
#endif
  ASSERT_EQ(questions.size(), 60u);

  const std::shared_ptr<Backend> backend = make_cpu_backend(DType::kF32, 0);
  LoadedModel loaded = load_model(".cache/models/smollm2-135m-instruct.gguf", *backend,
                                  {.max_tokens = 128, .max_logits = 64, .max_model_len = 512})
                           .value();
  const auto tokenizer =
      Tokenizer::from_vocabulary(vocabulary_of(read_gguf_tokenizer(*loaded.opened.checkpoint->gguf()).value())).value();
  ModelRunnerOptions runner{.max_tokens = 128, .max_sequences = 16, .max_logits = 64, .num_blocks = 200};
  EngineOptions options{.max_num_seqs = 16, .max_num_batched_tokens = 128, .max_model_len = 512};
  SteadyClock clock;
  const auto engine = make_engine(make_model_runner(backend, std::move(loaded.model), runner).value(), options, clock);
  int64_t last = 0;
  const auto scores = score_questions(*engine, clock, *tokenizer, std::span(questions).first(kQuestions),
                                      {.max_model_len = 512, .most = 32}, [&](int64_t done, int64_t) { last = done; })
                          .value();
  EXPECT_EQ(last, static_cast<int64_t>(kQuestions));
  for (size_t q = 0; q < kQuestions; ++q) {
    const Json& expected = golden["logprobs"][q];
    for (size_t c = 0; c < scores[q].logprobs.size(); ++c) {
      EXPECT_NEAR(scores[q].logprobs[c], expected[c].get<double>(), 1e-3) << q << ", " << c;
    }
    const auto best = std::ranges::max_element(expected);
    EXPECT_EQ(scores[q].chosen, best - expected.begin()) << q;
  }
  EXPECT_GT(engine->stats().prefix_queries, 0);

  // Letters: one request gets all four, to the bits of one each; where they are not among the most likely, each has its
  // own.
  std::vector<Question> letters(4);
  for (size_t q = 0; q < letters.size(); ++q) {
    const std::string choices = "\nA. Rome\nB. Paris\nC. Bern\nD. Oslo\nAnswer:";
    letters[q].context = cat("Name the capital of Italy.", choices, " A\n\nName the capital of ",
                             std::array{"France", "Norway", "Italy", "Peru"}[q], ".", choices);
    letters[q].continuations = {" A", " B", " C", " D"};
  }
  const auto score = [&](int32_t most) {
    CountingEngine counting(*engine);
    auto out = score_questions(counting, clock, *tokenizer, letters,
                               {.max_model_len = 512, .most = 32, .most_logprobs = most}, {});
    return std::pair(std::move(out).value(), counting.requests);
  };
  const auto [one_each, requests] = score(0);
  EXPECT_EQ(requests, 16);
  for (const int32_t most : {1, 20}) {
    const auto [together, fewer] = score(most);
    for (size_t q = 0; q < letters.size(); ++q) EXPECT_EQ(together[q].logprobs, one_each[q].logprobs) << most;
    EXPECT_EQ(fewer, most == 20 ? 4 : 16) << most;
  }
}

}  // namespace
}  // namespace hearth
