// `hearth eval choices`, `mmlu`, `gsm8k` and `compare`: benchmarks of answers, through the engine itself.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/commit.h"
#include "cli/load_engine.h"
#include "cli/progress.h"
#include "cli/write_json.h"
#include "eval/report.h"
#include "text/detokenizer.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

constexpr int64_t kMaxReportBytes = int64_t{1} << 30;
constexpr const char* kNextProblem = "Question:";  // an answer ends where the model asks itself the next one

int finished(const Status& status) {
  if (!status.ok()) log_error(status.message());
  return status.ok() ? 0 : 1;
}

Result<LoadedEngine> load(const ServerOptions& server, const Clock& clock) {
  ProgressLine line("loading");
  return load_engine(server, clock, [&](int64_t done, int64_t total) { line.update(done, total); });
}

// Twice as many as a step takes: the engine always has the next ones.
int64_t under_way(const LoadedEngine& loaded) {
  return std::min(2 * loaded.options.max_num_seqs, loaded.options.max_num_queued_requests);
}

Status write_report(const std::string& file, const char* task, const LoadedEngine& loaded, int64_t shots, Json report) {
  std::fputs(describe(report).c_str(), stdout);
  if (file.empty()) return {};
  Json out{{"task", task},
           {"shots", shots},
           {"model", loaded.options.model},
           {"backend", loaded.backend_name},
           {"dtype", loaded.options.backend.dtype},
           {"quantization", loaded.options.quantization},
           {"kv_cache_dtype", loaded.options.kv_cache_dtype},
           {"experts_per_token", loaded.options.experts_per_token},
           {"commit", commit()}};
  out.update(report);
  return write_json(file, out);
}

Status evaluate_choices(const ServerOptions& server, const EvalOptions& options, const char* task, int64_t shots,
                        std::span<const Question> questions) {
  SteadyClock clock;
  HEARTH_ASSIGN(const LoadedEngine loaded, load(server, clock));
  ProgressLine line(task, "questions", 1);
  HEARTH_ASSIGN(const std::vector<QuestionScore> scores,
                score_questions(*loaded.engine, clock, *loaded.text.tokenizer, questions,
                                {.max_model_len = loaded.model->max_model_len(), .most = under_way(loaded)},
                                [&](int64_t done, int64_t total) { line.update(done, total); }));
  line.finish();
  if (const auto cut = std::ranges::count_if(scores, &QuestionScore::cut); cut > 0) {
    log_warning(cut, " questions were cut from the left to fit the model's context");
  }
  return write_report(options.json, task, loaded, shots, choices_report(questions, scores));
}

Status choices(const ServerOptions& server, const EvalOptions& options) {
  HEARTH_ASSIGN(std::vector<Question> questions, read_choices(options.path));
  if (options.limit > 0 && std::ssize(questions) > options.limit) questions.resize(static_cast<size_t>(options.limit));
  return evaluate_choices(server, options, "choices", 0, questions);
}

Status mmlu(const ServerOptions& server, const EvalOptions& options) {
  HEARTH_ASSIGN(const std::vector<Question> questions, read_mmlu(options.path, options.shots, options.limit));
  return evaluate_choices(server, options, "mmlu", options.shots, questions);
}

Status gsm8k(const ServerOptions& server, const EvalOptions& options) {
  HEARTH_ASSIGN(const std::vector<WordProblem> problems, read_gsm8k(options.path, options.shots, options.limit));
  SteadyClock clock;
  HEARTH_ASSIGN(const LoadedEngine loaded, load(server, clock));
  const Tokenizer& tokenizer = *loaded.text.tokenizer;
  ProgressLine line("gsm8k", "problems", 1);
  std::vector<std::string> said(problems.size());
  int64_t done = 0;
  size_t next = 0;
  bool first_ended = false;  // the shots are in the cache then
  RequestSource source;
  source.next = [&]() -> Result<std::optional<Request>> {
    if (next == problems.size() || (next == 1 && !first_ended)) return std::optional<Request>();
    Request request;
    request.id = cat(next);
    HEARTH_ASSIGN(request.prompt, tokenizer.encode(problems[next].prompt, {.add_special = true}));
    request.sampling.temperature = 0;
    request.sampling.max_tokens = options.max_tokens;
    ++next;
    return std::optional<Request>(std::move(request));
  };
  source.enough = [&](const std::string&, const std::vector<int32_t>& tokens) {
    // The last of the stop's characters came with the last tokens.
    const size_t kTail = 8;
    const std::vector<int32_t> tail(tokens.end() - static_cast<ptrdiff_t>(std::min(tokens.size(), kTail)),
                                    tokens.end());
    return tokenizer.decode(tail, true).find(kNextProblem) != std::string::npos;
  };
  source.answered = [&](const std::string& id, EngineAnswer&& answer) {
    first_ended = true;
    std::string text = tokenizer.decode(answer.tokens, true);
    text.resize(std::min(text.size(), text.find(kNextProblem)));
    said[std::stoul(id)] = last_number(text);
    line.update(++done, std::ssize(problems));
  };
  HEARTH_TRY(run_requests(*loaded.engine, clock, under_way(loaded), std::move(source)));
  line.finish();
  return write_report(options.json, "gsm8k", loaded, options.shots, problems_report(problems, said));
}

Result<Json> read_report(const std::string& file) {
  HEARTH_ASSIGN(const std::string text, read_text_file(file, kMaxReportBytes));
  Result<Json> report = parse_json(text);
  if (!report.ok()) return report.status().prefixed(file);
  return report;
}

Status compare(const std::string& first, const std::string& second) {
  HEARTH_ASSIGN(const Json a, read_report(first));
  HEARTH_ASSIGN(const Json b, read_report(second));
  HEARTH_ASSIGN(const std::string text, compare_reports(a, b));
  std::fputs(text.c_str(), stdout);
  return {};
}

}  // namespace

int eval_choices_command(const ServerOptions& server, const EvalOptions& options) {
  return finished(choices(server, options));
}
int eval_mmlu_command(const ServerOptions& server, const EvalOptions& options) {
  return finished(mmlu(server, options));
}
int eval_gsm8k_command(const ServerOptions& server, const EvalOptions& options) {
  return finished(gsm8k(server, options));
}
int eval_compare_command(const std::string& first, const std::string& second) {
  return finished(compare(first, second));
}

}  // namespace hearth
