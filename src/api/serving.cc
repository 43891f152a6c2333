// Request in, engine requests out; every refusal that needs the model is made here, before anything is queued.
#include "api/serving.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "api/json_writer.h"
#include "api/messages_request.h"
#include "api/messages_writer.h"
#include "api/random_id.h"
#include "api/responses.h"
#include "api/responses_request.h"
#include "api/responses_writer.h"
#include "base/log.h"
#include "grammar/token_rules.h"

namespace hearth {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // OpenAI's
constexpr int64_t kMaxLogprobs = 2'000'000;       // of one answer
constexpr int64_t kMaxDetokenizedBytes = 16 << 20;

// Cuts a rendered prompt after its last message's text, as transformers does: where a template trims the text, after
// what is left of it. What the template itself writes may read the same and does not count. False: it is not there.
bool end_after(RenderedPrompt& prompt, std::string_view message) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const size_t begin = message.find_first_not_of(kSpace);
  if (begin == message.npos) return false;
  message.remove_prefix(begin);
  const std::string_view trimmed = message.substr(0, message.find_last_not_of(kSpace) + 1);
  const auto is_request = [&](size_t from) {
    const auto range = std::ranges::upper_bound(prompt.from_request, from, {}, &ByteRange::end);
    return range != prompt.from_request.end() && range->begin <= from && from + trimmed.size() <= range->end;
  };
  size_t at = prompt.text.rfind(trimmed);
  while (at != prompt.text.npos && !is_request(at))
    at = at == 0 ? prompt.text.npos : prompt.text.rfind(trimmed, at - 1);
  if (at == prompt.text.npos) return false;
  const size_t end = at + (prompt.text.compare(at, message.size(), message) == 0 ? message.size() : trimmed.size());
  prompt.text.resize(end);
  std::erase_if(prompt.from_request, [end](const ByteRange& range) { return range.begin >= end; });
  if (!prompt.from_request.empty()) prompt.from_request.back().end = std::min(prompt.from_request.back().end, end);
  return true;
}

}  // namespace

Serving::Serving(ServingOptions options, const Tokenizer& tokenizer, const ChatTemplate* chat_template, Engine& engine,
                 const Clock& clock, ServingObserver* observer)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      shaper_(options_.format, tokenizer, options_.end_tokens, options_.limits.vocab_size),
      chat_template_(chat_template),
      engine_(engine),
      clock_(clock),
      observer_(observer),
      created_(time(nullptr)) {
  HEARTH_CHECK(!options_.model_names.empty());
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto bytes = static_cast<int64_t>(tokenizer.token_bytes(static_cast<int32_t>(id)).size());
    longest_token_ = std::max(longest_token_, bytes);
  }
}

std::optional<ApiError> Serving::check_model(const std::string& name) const {
  const auto& names = options_.model_names;
  if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return std::nullopt;
  return model_not_found();
}

std::optional<ApiError> Serving::check_queue() const {
  if (!engine_.stats().queue_is_full) return std::nullopt;
  return to_api_error(Status(Code::kResourceExhausted, "the request queue is full"));
}

ApiError Serving::too_long(std::string_view param) const {
  return context_length_exceeded(
      cat("This model's maximum context length is ", options_.limits.max_model_len, " tokens; the prompt is longer"),
      param);
}

// No token stands for more bytes than the longest, so megabytes beyond the context are refused without tokenizing them.
bool Serving::surely_too_long(std::string_view text) const {
  return static_cast<int64_t>(text.size()) / longest_token_ > options_.limits.max_model_len;
}

Serving::OrError<std::vector<int32_t>> Serving::encode(std::string_view text, EncodeOptions options) const {
  auto ids = tokenizer_.encode(text, options);
  if (!ids.ok()) return to_api_error(ids.status());
  return std::move(ids).value();
}

Serving::OrError<std::vector<int32_t>> Serving::encode_chat(ChatRequest& request) const {
  if (chat_template_ == nullptr) {
    return to_api_error(unimplemented("the model has no chat template; use /v1/completions").with_param("messages"));
  }
  std::string last = request.messages.back()["content"];
  Json variables = std::move(request.template_variables);
  variables["messages"] = std::move(request.messages);
  variables["add_generation_prompt"] = request.add_generation_prompt;
  if (request.continue_final_message) variables["continue_final_message"] = true;
  if (!request.tools.listed.is_null()) variables["tools"] = request.tools.listed;
  if (auto error = set_effort(request, variables)) return *error;
  if (!request.documents.is_null()) variables["documents"] = std::move(request.documents);
  // As transformers passes them where a request has none.
  for (const char* absent : {"tools", "documents"}) {
    if (!variables.contains(absent)) variables[absent] = nullptr;
  }
  for (const auto& [name, text] : tokenizer_.names()) variables[name] = text;
  auto rendered = chat_template_->render(variables, time(nullptr));
  if (!rendered.ok()) return to_api_error(Status(rendered.status()).with_param("messages"));
  if (request.continue_final_message && !end_after(*rendered, last)) {
    return to_api_error(invalid("continue_final_message needs a chat template that writes the last message as it is")
                            .with_param("continue_final_message"));
  }
  if (!request.truncate_prompt_tokens && surely_too_long(rendered->text)) return too_long("messages");
  auto ids = tokenizer_.encode_rendered(*rendered);
  if (!ids.ok()) return to_api_error(ids.status());
  truncate(request, *ids);
  return std::move(ids).value();
}

// How hard the model is to think, in its template's words.
std::optional<ApiError> Serving::set_effort(ChatRequest& request, Json& variables) const {
  const AnswerFormat& format = shaper_.format();
  const std::string& effort = request.reasoning.effort;
  if (effort == "none") {
    if (format.reads_enable_thinking) {
      variables["enable_thinking"] = false;
    } else if (!request.reasoning.budget) {
      request.reasoning.budget = 0;
    }
  } else if (!effort.empty()) {
    if (!format.reads_effort) {
      return to_api_error(
          unimplemented("the model's chat template knows no reasoning_effort").with_param("reasoning_effort"));
    }
    variables["reasoning_effort"] = effort;
  }
  return std::nullopt;
}

void Serving::truncate(const GenerationRequest& request, std::vector<int32_t>& ids) const {
  if (!request.truncate_prompt_tokens) return;
  const int64_t context = options_.limits.max_model_len;
  const int64_t room = std::max<int64_t>(context - std::min(context, request.max_tokens.value_or(1)), 1);
  const int64_t most = *request.truncate_prompt_tokens < 0 ? room : *request.truncate_prompt_tokens;
  if (std::ssize(ids) > most) ids.erase(ids.begin(), ids.end() - most);
}

Serving::OrError<std::vector<Serving::Input>> Serving::inputs_of(CompletionRequest& request) const {
  std::vector<Input> inputs;
  for (CompletionPrompt& prompt : request.prompts) {
    Input input;
    if (auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
      input.ids = std::move(*ids);
    } else {
      auto& text = std::get<std::string>(prompt);
      const EncodeOptions options{request.add_special_tokens, !request.split_special_tokens};
      if (!request.truncate_prompt_tokens && surely_too_long(text)) return too_long("prompt");
      auto encoded = encode(text, options);
      if (auto* error = std::get_if<ApiError>(&encoded)) return *error;
      input.ids = std::get<0>(std::move(encoded));
      if (request.echo) input.text = std::move(text);
    }
    const size_t whole = input.ids.size();
    truncate(request, input.ids);
    // What a text prompt lost is not echoed.
    const bool is_text = std::holds_alternative<std::string>(prompt) && input.ids.size() == whole;
    if (request.echo && !is_text) input.text = tokenizer_.decode(input.ids, request.skip_special_tokens);
    inputs.push_back(std::move(input));
  }
  return inputs;
}

Serving::OrError<std::shared_ptr<Answer>> Serving::completions(std::string_view body, const CallTimes& times,
                                                               Wake wake) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto parsed = parse_completion_request(**json, options_.limits);
  if (!parsed.ok()) return to_api_error(parsed.status());
  CompletionRequest& request = *parsed;
  if (auto error = check_model(request.model)) return *error;
  if (auto error = check_queue()) return *error;

  auto made = inputs_of(request);
  if (auto* error = std::get_if<ApiError>(&made)) return *error;
  auto& inputs = std::get<0>(made);
  auto shape = shaper_.of_completion(request);
  if (!shape.ok()) return to_api_error(shape.status());
  const bool echo = request.echo;
  Spelling spelling = openai(request, AnswerKind::kCompletion);
  return start(std::move(request), std::move(spelling), "prompt", std::move(inputs), std::move(shape).value(), echo,
               times, std::move(wake));
}

Serving::Spelling Serving::openai(const GenerationRequest& request, AnswerKind kind) const {
  ResponseHead head{kind,
                    random_id(kind == AnswerKind::kChat ? "chatcmpl-" : "cmpl-"),
                    time(nullptr),
                    options_.model_names.front(),
                    request.sampling.logprobs >= 0,
                    request.prompt_logprobs.has_value(),
                    request.return_token_ids,
                    request.tokens_as_ids};
  std::string id = head.id;
  return {std::move(id),
          make_openai_writer(std::move(head), tokenizer_, {request.include_usage, request.continuous_usage})};
}

Serving::OrError<std::shared_ptr<Answer>> Serving::chat(std::string_view body, const CallTimes& times,
                                                        Wake wake) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto parsed = parse_chat_request(**json, options_.limits);
  if (!parsed.ok()) return to_api_error(parsed.status());
  Spelling spelling = openai(*parsed, AnswerKind::kChat);
  return converse(std::move(parsed).value(), std::move(spelling), times, std::move(wake));
}

Serving::OrError<std::shared_ptr<Answer>> Serving::messages(std::string_view body, const CallTimes& times,
                                                            Wake wake) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto said = chat_body_of_messages(**json);
  if (!said.ok()) return to_api_error(said.status());
  auto parsed = parse_chat_request(*said, options_.limits);
  if (!parsed.ok()) return to_api_error(parsed.status());
  std::string id = random_id("msg_", 24);
  Spelling spelling{id, make_messages_writer(id, options_.model_names.front()), true};
  return converse(std::move(parsed).value(), std::move(spelling), times, std::move(wake));
}

Serving::OrError<std::string> Serving::count_tokens(std::string_view body) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto said = chat_body_of_messages(**json, true);
  if (!said.ok()) return to_api_error(said.status());
  auto parsed = parse_chat_request(*said, options_.limits);
  if (!parsed.ok()) return to_api_error(parsed.status());
  if (auto error = check_model(parsed->model)) return *error;
  auto ids = encode_chat(*parsed);
  if (auto* error = std::get_if<ApiError>(&ids)) return *error;
  return cat("{\"input_tokens\":", std::get<0>(ids).size(), "}");
}

Serving::OrError<std::shared_ptr<Answer>> Serving::responses(std::string_view body, const CallTimes& times,
                                                             Wake wake) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto made = parse_responses_request(**json);
  if (!made.ok()) return to_api_error(made.status());
  Json& messages = made->chat["messages"];
  if (!made->previous.empty()) {
    // What was said so far, but for the instructions, which are this request's own.
    const auto before = responses_->find(made->previous);
    if (!before) {
      return to_api_error(Status(Code::kNotFound, "the previous response is not known here, or no longer")
                              .with_param("previous_response_id"));
    }
    Json all = parse_json(*before, {.root_must_be_object = false}).value();
    if (made->has_instructions) all.insert(all.begin(), messages.front());
    for (size_t i = made->has_instructions ? 1 : 0; i < messages.size(); ++i) all.push_back(std::move(messages[i]));
    messages = std::move(all);
  }
  auto parsed = parse_chat_request(made->chat, options_.limits);
  if (!parsed.ok()) return to_api_error(parsed.status());
  std::string id = random_id("resp_");
  std::function<void(Json)> ended;
  if (made->store) {
    Json said = Json::array();
    for (size_t i = made->has_instructions ? 1 : 0; i < messages.size(); ++i) said.push_back(messages[i]);
    ended = [store = responses_, id, said = std::move(said)](Json message) mutable {
      said.push_back(std::move(message));
      store->add(id, said.dump(-1, ' ', false, Json::error_handler_t::replace));
    };
  }
  ResponsesHead head{id, time(nullptr), options_.model_names.front(), std::move(made->echo)};
  Spelling spelling{id, make_responses_writer(std::move(head), std::move(ended))};
  return converse(std::move(parsed).value(), std::move(spelling), times, std::move(wake));
}

Serving::OrError<std::shared_ptr<Answer>> Serving::converse(ChatRequest request, Spelling spelling,
                                                            const CallTimes& times, Wake wake) const {
  if (auto error = check_model(request.model)) return *error;
  if (auto error = check_queue()) return *error;
  auto ids = encode_chat(request);
  if (auto* error = std::get_if<ApiError>(&ids)) return *error;
  std::vector<Input> inputs(1);
  inputs[0].ids = std::get<0>(std::move(ids));
  auto shape = shaper_.of_chat(request, inputs[0].ids);
  if (!shape.ok()) return to_api_error(shape.status());
  shape->show_reasoning = request.reasoning.include;
  return start(std::move(request), std::move(spelling), "messages", std::move(inputs), std::move(shape).value(), false,
               times, std::move(wake));
}

// What an answer holds of log-probabilities is bounded: each is some fifty bytes of it.
std::optional<ApiError> Serving::check_logprobs(const GenerationRequest& request, AnswerKind kind,
                                                const std::vector<Input>& inputs) const {
  const int64_t per_prompt_token = request.sampling.prompt_logprobs + 1, per_token = request.sampling.logprobs + 1;
  int64_t entries = 0;
  for (const Input& input : inputs) {
    const auto length = std::ssize(input.ids);
    const int64_t room = options_.limits.max_model_len - length;
    const int64_t usual = kind == AnswerKind::kChat ? room : std::min(kDefaultCompletionTokens, room);
    const int64_t generated = request.stream ? 0 : request.max_tokens.value_or(usual);
    entries += request.best_of * (per_prompt_token * length + per_token * generated);
  }
  if (entries <= kMaxLogprobs) return std::nullopt;
  const std::string_view name = per_prompt_token > per_token ? "prompt_logprobs" : "logprobs";
  return to_api_error(
      invalid(name, " for so many tokens and choices are more than the ", kMaxLogprobs, " that one answer holds")
          .with_param(name));
}

// Null: any token may come.
Serving::OrError<std::shared_ptr<const Grammar>> Serving::with_token_rules(
    const GenerationRequest& request, std::shared_ptr<const Grammar> grammar) const {
  TokenRules rules{request.allowed_token_ids, {}, options_.end_tokens};
  for (const std::string& word : request.bad_words) {
    // At the beginning of a text and within one.
    for (const std::string& text : {word, " " + word}) {
      auto ids = tokenizer_.encode(text);
      if (!ids.ok()) return to_api_error(Status(ids.status()).with_param("bad_words"));
      if (!ids->empty()) rules.bad_words.push_back(std::move(ids).value());
    }
  }
  if (!rules.any()) return grammar;
  return make_token_rules(std::move(rules), options_.limits.vocab_size, std::move(grammar));
}

Serving::OrError<std::shared_ptr<Answer>> Serving::start(GenerationRequest request, Spelling spelling,
                                                         std::string_view param, std::vector<Input> inputs,
                                                         AnswerShape shape, bool echo, const CallTimes& times,
                                                         Wake wake) const {
  const bool is_chat = param == "messages";
  const int64_t context = options_.limits.max_model_len;
  for (const Input& input : inputs) {
    const auto length = static_cast<int64_t>(input.ids.size());
    if (length == 0) return to_api_error(invalid(param, " has no tokens").with_param(param));
    if (length > context || request.max_tokens.value_or(1) > context - length) {
      return context_length_exceeded(
          cat("This model's maximum context length is ", context, " tokens; the prompt has ", length,
              request.max_tokens ? cat(" and max_tokens asks for ", *request.max_tokens)
                                 : ", which leaves no room for an answer"),
          request.max_tokens && length < context ? "max_tokens" : param);
    }
  }

  if (auto error = check_logprobs(request, is_chat ? AnswerKind::kChat : AnswerKind::kCompletion, inputs))
    return *error;
  auto grammar = with_token_rules(request, shape.grammar);
  if (auto* error = std::get_if<ApiError>(&grammar)) return *error;
  shape.grammar = std::get<0>(std::move(grammar));

  if (times.targets.any() && !options_.keeps_targets && !told_of_targets_.test_and_set()) {
    log_warning("requests bring latency targets; they are kept where the server starts with --request-targets");
  }
  Answer::Options options;
  options.id = spelling.id;
  options.stream = request.stream;
  options.anthropic = spelling.anthropic;
  options.n = request.n;
  options.best_of = request.best_of;
  options.arrival = times.arrival;
  const auto answer = std::make_shared<Answer>(std::move(options), std::move(spelling.writer), tokenizer_, engine_,
                                               clock_, observer_, std::move(wake));

  // A control token shows no text for a stop string to be found in: the engine stops at it.
  for (const std::string& stop : request.stop) {
    const auto id = tokenizer_.token_id(stop);
    if (id && tokenizer_.is_special(*id)) request.sampling.stop_token_ids.push_back(*id);
  }
  const uint64_t seed = request.seed.value_or(random_bits());
  std::vector<Request> submits;
  for (Input& input : inputs) {
    const auto length = static_cast<int64_t>(input.ids.size());
    const int64_t room = context - length;
    SamplingParams sampling = request.sampling;
    if (request.best_of > request.n) sampling.logprobs = std::max(sampling.logprobs, 0);
    sampling.max_tokens = is_chat ? room : std::min(kDefaultCompletionTokens, room);
    if (request.max_tokens) sampling.max_tokens = *request.max_tokens;
    if (sampling.min_tokens > sampling.max_tokens) {
      return to_api_error(
          invalid("min_tokens is above the ", sampling.max_tokens, " tokens of max_tokens or its default")
              .with_param("min_tokens"));
    }
    for (int64_t i = 0; i < request.best_of; ++i) {
      const auto index = static_cast<int64_t>(submits.size());
      Choice& choice = answer->add_choice(request, length, i > 0);
      if (shape.parser) choice.parse_with(*shape.parser, shape.show_reasoning);
      if (echo) choice.echo(input.text, input.ids);
      if (request.return_token_ids) choice.prompt_ids = input.ids;
      Request& one = submits.emplace_back();
      one.id = answer->request_id(index);
      one.prompt = input.ids;
      one.sampling = sampling;
      one.sampling.seed = seed + static_cast<uint64_t>(i);
      one.arrival = times.arrival;
      one.deadline = times.deadline;
      one.targets = times.targets;
      one.priority = request.priority;
      one.cache_salt = request.cache_salt;
      one.grammar = shape.grammar;
      one.on_event = [answer, index](RequestEvent&& event) { answer->deliver(index, std::move(event)); };
    }
  }
  // A call is taken as a whole: where one of its requests is refused, or memory gives out, the others end too.
  struct CancelUnlessAll {
    const Answer& answer;
    Engine& engine;
    int64_t submitted = 0;
    bool all = false;
    ~CancelUnlessAll() {
      for (int64_t i = 0; i < submitted && !all; ++i) engine.cancel(answer.request_id(i));
    }
  } guard{*answer, engine_};
  for (Request& submit : submits) {
    if (Status status = engine_.submit(std::move(submit)); !status.ok()) {
      if (status.code() == Code::kInvalidArgument) return context_length_exceeded(status.message(), param);
      return to_api_error(status);
    }
    ++guard.submitted;
  }
  guard.all = true;
  return answer;
}

void Serving::write_prompt(JsonWriter& w, const std::vector<int32_t>& ids) const {
  w.begin_object().field("model", options_.model_names.front()).field("count", ids.size());
  w.field("max_model_len", options_.limits.max_model_len).key("token_ids").begin_array();
  for (const int32_t id : ids) w.value(id);
  w.end_array().field("prompt", tokenizer_.decode(ids, false)).end_object();
}

Serving::OrError<std::string> Serving::render_completions(std::string_view body) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto request = parse_completion_request(**json, options_.limits);
  if (!request.ok()) return to_api_error(request.status());
  if (auto error = check_model(request->model)) return *error;
  auto inputs = inputs_of(*request);
  if (auto* error = std::get_if<ApiError>(&inputs)) return *error;
  std::string out;
  JsonWriter w(out);
  w.begin_array();
  for (const Input& input : std::get<0>(inputs)) write_prompt(w, input.ids);
  w.end_array();
  return out;
}

Serving::OrError<std::string> Serving::render_chat(std::string_view body) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  auto request = parse_chat_request(**json, options_.limits);
  if (!request.ok()) return to_api_error(request.status());
  if (auto error = check_model(request->model)) return *error;
  auto ids = encode_chat(*request);
  if (auto* error = std::get_if<ApiError>(&ids)) return *error;
  std::string out;
  JsonWriter w(out);
  write_prompt(w, std::get<0>(ids));
  return out;
}

Serving::OrError<std::string> Serving::tokenize(std::string_view body) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  Fields fields(**json);
  std::string model, prompt;
  bool add_special = true, split_special = false, token_strings = false;
  fields.read("model", model);
  fields.read("add_special_tokens", add_special);
  fields.read("split_special_tokens", split_special);
  fields.read("return_token_strs", token_strings);
  OrError<std::vector<int32_t>> ids;
  if (fields.get("messages") != nullptr) {
    auto parsed = parse_chat_request(**json, options_.limits);
    if (!parsed.ok()) return to_api_error(parsed.status());
    ids = encode_chat(*parsed);
  } else {
    if (fields.get("prompt") == nullptr) fields.refuse("prompt", "is required");
    fields.read("prompt", prompt);
    if (fields.ok()) {
      if (surely_too_long(prompt)) return too_long("prompt");
      ids = encode(prompt, {add_special, !split_special});
    }
  }
  if (!fields.ok()) return to_api_error(fields.status());
  if (auto error = check_model(model)) return *error;
  if (auto* error = std::get_if<ApiError>(&ids)) return *error;

  const auto& tokens = std::get<0>(ids);
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("count", tokens.size()).field("max_model_len", options_.limits.max_model_len);
  w.key("tokens").begin_array();
  for (const int32_t id : tokens) w.value(id);
  w.end_array().key("token_strs");
  if (token_strings) {
    w.begin_array();
    for (const int32_t id : tokens) w.value(tokenizer_.token_text(id));
    w.end_array();
  } else {
    w.null();
  }
  w.end_object();
  return out;
}

std::string Serving::tokenizer_info() const {
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("tokenizer_class", "PreTrainedTokenizerFast").field("vocab_size", tokenizer_.vocab_size());
  w.field("model_max_length", options_.limits.max_model_len).field("clean_up_tokenization_spaces", false);
  const auto token = [&](std::string_view name, std::optional<int32_t> id) {
    w.key(name);
    id ? w.value(tokenizer_.token_text(*id)) : w.null();
  };
  token("bos_token", tokenizer_.bos());
  token("eos_token", tokenizer_.eos());
  w.key("chat_template");
  chat_template_ != nullptr ? w.value(chat_template_->source()) : w.null();
  w.end_object();
  return out;
}

Serving::OrError<std::string> Serving::detokenize(std::string_view body) const {
  auto json = parse_body(body);
  if (!json.ok()) return to_api_error(json.status());
  Fields fields(**json);
  std::string model;
  fields.read("model", model);
  const Json* tokens = fields.get("tokens");
  if (tokens == nullptr || !tokens->is_array()) fields.refuse("tokens", "must be a list of token ids");
  if (!fields.ok()) return to_api_error(fields.status());
  if (auto error = check_model(model)) return *error;
  std::vector<int32_t> ids;
  int64_t bytes = 0;
  for (const Json& value : *tokens) {
    int64_t id;
    if (!to_integer(value, 0, options_.limits.vocab_size - 1, id)) {
      return to_api_error(
          invalid("tokens must hold token ids from 0 to ", options_.limits.vocab_size - 1).with_param("tokens"));
    }
    ids.push_back(static_cast<int32_t>(id));
    bytes += std::ssize(tokenizer_.token_bytes(ids.back()));
    if (bytes > kMaxDetokenizedBytes) {
      return to_api_error(
          invalid("tokens stand for more than ", kMaxDetokenizedBytes, " bytes of text").with_param("tokens"));
    }
  }
  std::string out;
  JsonWriter(out).begin_object().field("prompt", tokenizer_.decode(ids, false)).end_object();
  return out;
}

void Serving::write_model(JsonWriter& w, const std::string& name) const {
  w.begin_object().field("id", name).field("object", "model").field("created", created_).field("owned_by", "hearth");
  w.field("root", options_.model_names.front()).field("max_model_len", options_.limits.max_model_len);
  if (!options_.device.empty()) w.field("device", options_.device);
  w.end_object();
}

std::string Serving::models() const {
  std::string out;
  JsonWriter w(out);
  w.begin_object().field("object", "list").key("data").begin_array();
  for (const std::string& name : options_.model_names) write_model(w, name);
  w.end_array().end_object();
  return out;
}

std::optional<std::string> Serving::model(std::string_view name) const {
  for (const std::string& known : options_.model_names) {
    if (known != name) continue;
    std::string out;
    JsonWriter w(out);
    write_model(w, known);
    return out;
  }
  return std::nullopt;
}

}  // namespace hearth
