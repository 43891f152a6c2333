// Serving: from the body of an API call to requests of the engine, for one loaded model. Its calls parse, apply the
// chat template and tokenize, so they belong on a worker thread; they may run on several at once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "api/answer.h"
#include "api/answer_shaper.h"
#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/response_store.h"
#include "api/responses.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hearth {

struct ServingOptions {
  std::vector<std::string> model_names;  // the first is what answers say
  ApiLimits limits;
  AnswerFormat format;                  // how the model writes tool calls and reasoning
  std::vector<int32_t> end_tokens;      // of the model
  bool keeps_targets = false;           // of latency, which requests may bring
  std::string device;                   // what the model runs on, for /v1/models; empty: not said
  std::string server_info, model_info;  // JSON, for /get_server_info and /get_model_info
};

// When a call came, and what its headers ask of its times.
struct CallTimes {
  CallTimes(TimePoint arrival_in) : arrival(arrival_in) {}
  TimePoint arrival;
  std::optional<TimePoint> deadline;
  LatencyTargets targets;
};

class Serving {
 public:
  // `chat_template` may be null: then chat is refused. All outlive the serving.
  Serving(ServingOptions options, const Tokenizer& tokenizer, const ChatTemplate* chat_template, Engine& engine,
          const Clock& clock, ServingObserver* observer);

  template <typename T>
  using OrError = std::variant<T, ApiError>;
  using Wake = std::function<void()>;

  OrError<std::shared_ptr<Answer>> completions(std::string_view body, const CallTimes& times, Wake wake) const;
  OrError<std::shared_ptr<Answer>> chat(std::string_view body, const CallTimes& times, Wake wake) const;
  // Anthropic's Messages and OpenAI's Responses: the same conversation in other words.
  OrError<std::shared_ptr<Answer>> messages(std::string_view body, const CallTimes& times, Wake wake) const;
  OrError<std::shared_ptr<Answer>> responses(std::string_view body, const CallTimes& times, Wake wake) const;
  OrError<std::string> count_tokens(std::string_view body) const;
  // The prompt that a call would have: its tokens, and their text.
  OrError<std::string> render_completions(std::string_view body) const;
  OrError<std::string> render_chat(std::string_view body) const;
  OrError<std::string> tokenize(std::string_view body) const;
  OrError<std::string> detokenize(std::string_view body) const;
  // What a client needs to prepare prompts itself, by tokenizer_config.json's names.
  std::string tokenizer_info() const;
  std::string models() const;
  // Nullopt: no such model.
  std::optional<std::string> model(std::string_view name) const;

  const ServingOptions& options() const { return options_; }
  const Engine& engine() const { return engine_; }
  TimePoint now() const { return clock_.now(); }

 private:
  struct Input {
    std::vector<int32_t> ids;
    std::string text;  // of the prompt, where it is echoed
  };
  // How an answer is written.
  struct Spelling {
    std::string id;
    std::unique_ptr<AnswerWriter> writer;
    bool anthropic = false;
  };
  Spelling openai(const GenerationRequest& request, AnswerKind kind) const;
  OrError<std::shared_ptr<Answer>> converse(ChatRequest request, Spelling spelling, const CallTimes& times,
                                            Wake wake) const;
  // `param`: where the prompt stands in the request, messages or prompt.
  OrError<std::shared_ptr<Answer>> start(GenerationRequest request, Spelling spelling, std::string_view param,
                                         std::vector<Input> inputs, AnswerShape shape, bool echo,
                                         const CallTimes& times, Wake wake) const;
  std::optional<ApiError> set_effort(ChatRequest& request, Json& variables) const;
  std::optional<ApiError> check_model(const std::string& name) const;
  std::optional<ApiError> check_queue() const;
  OrError<std::vector<int32_t>> encode(std::string_view text, EncodeOptions options) const;
  OrError<std::vector<int32_t>> encode_chat(ChatRequest& request) const;
  OrError<std::vector<Input>> inputs_of(CompletionRequest& request) const;
  std::optional<ApiError> check_logprobs(const GenerationRequest& request, AnswerKind kind,
                                         const std::vector<Input>& inputs) const;
  OrError<std::shared_ptr<const Grammar>> with_token_rules(const GenerationRequest& request,
                                                           std::shared_ptr<const Grammar> grammar) const;
  void truncate(const GenerationRequest& request, std::vector<int32_t>& ids) const;
  void write_prompt(class JsonWriter& w, const std::vector<int32_t>& ids) const;
  bool surely_too_long(std::string_view text) const;
  ApiError too_long(std::string_view param) const;
  void write_model(class JsonWriter& w, const std::string& name) const;

  const ServingOptions options_;
  const Tokenizer& tokenizer_;
  const AnswerShaper shaper_;
  const ChatTemplate* const chat_template_;
  Engine& engine_;
  const Clock& clock_;
  ServingObserver* const observer_;
  const std::shared_ptr<ResponseStore> responses_ = std::make_shared<ResponseStore>();
  const int64_t created_;
  int64_t longest_token_ = 1;  // bytes
  mutable std::atomic_flag told_of_targets_;
};

}  // namespace hearth
