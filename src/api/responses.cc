// One writer for four shapes: they differ in where a choice's text stands and how its log-probabilities look.
#include "api/responses.h"

#include <unordered_set>

#include "api/json_writer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace hearth {
namespace {

const char* finish_name(const Choice& choice) {
  if (*choice.finish == FinishReason::kLength) return "length";
  return choice.num_calls > 0 ? "tool_calls" : "stop";
}

void write_calls(JsonWriter& w, const std::vector<CallDelta>& calls, bool chunk) {
  w.key("tool_calls").begin_array();
  for (const CallDelta& call : calls) {
    w.begin_object();
    if (chunk) w.field("index", call.index);
    if (!call.id.empty()) w.field("id", call.id).field("type", "function");
    w.key("function").begin_object();
    if (!call.name.empty()) w.field("name", call.name);
    w.field("arguments", call.arguments).end_object().end_object();
  }
  w.end_array();
}

// A chunk says what is new; a message that only calls tools has no content, whole or joined from its chunks.
void write_message(JsonWriter& w, const Choice& choice, bool chunk) {
  w.begin_object();
  if (choice.first) w.field("role", "assistant");
  const bool other = !choice.calls.empty() || (chunk && (!choice.reasoning.empty() || choice.num_calls > 0));
  if (!choice.text.empty() || !other) {
    w.field("content", choice.text);
  } else if (!chunk) {
    w.key("content").null();
  }
  if (!choice.reasoning.empty()) w.field("reasoning_content", choice.reasoning);
  if (!choice.calls.empty()) write_calls(w, choice.calls, chunk);
  w.end_object();
}

// Completions name a token that is a part of a character by its bytes, as OpenAI did: "bytes:\xf0\x9f". Different
// tokens so keep different names.
std::string completion_token(const ResponseHead& head, const Tokenizer& tokenizer, int32_t id) {
  if (head.tokens_as_ids) return cat("token_id:", id);
  const std::string_view bytes = tokenizer.token_bytes(id);
  if (valid_utf8(bytes)) return std::string(bytes);
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "bytes:";
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += {'\\', 'x', kHex[b >> 4], kHex[b & 15]};
  }
  return out;
}

// Keys of an object are unique: of tokens that read the same, the most likely counts. The sampled token comes last,
// where it is not among the likeliest.
void write_top_of_completion(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer,
                             const TokenLogprob& at) {
  std::unordered_set<std::string> names;
  const auto add = [&](int32_t token, float logprob) {
    const auto [name, is_new] = names.insert(completion_token(head, tokenizer, token));
    if (is_new) w.field(*name, logprob);
  };
  w.begin_object();
  for (const auto& [token, logprob] : at.top) add(token, logprob);
  add(at.token, at.logprob);
  w.end_object();
}

void write_completion_logprobs(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer,
                               const Choice& choice) {
  w.begin_object().key("text_offset").begin_array();
  for (const AnswerToken& t : choice.tokens) w.value(t.text_offset);
  w.end_array().key("tokens").begin_array();
  for (const AnswerToken& t : choice.tokens) w.value(completion_token(head, tokenizer, t.token));
  w.end_array().key("token_logprobs").begin_array();
  for (const AnswerToken& t : choice.tokens) t.logprob ? w.value(t.logprob->logprob) : w.null();
  w.end_array().key("top_logprobs").begin_array();
  for (const AnswerToken& t : choice.tokens) {
    if (t.logprob) {
      write_top_of_completion(w, head, tokenizer, *t.logprob);
    } else {
      w.null();
    }
  }
  w.end_array().end_object();
}

void write_chat_token(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer, int32_t token,
                      float logprob) {
  const std::string_view bytes = tokenizer.token_bytes(token);
  w.key("token");
  head.tokens_as_ids ? w.value(cat("token_id:", token)) : w.value(bytes);
  w.field("logprob", logprob).key("bytes").begin_array();
  for (const char c : bytes) w.value(static_cast<int>(static_cast<unsigned char>(c)));
  w.end_array();
}

void write_chat_logprobs(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer, const Choice& choice) {
  w.begin_object().key("content").begin_array();
  for (const AnswerToken& t : choice.tokens) {
    if (!t.logprob) continue;
    w.begin_object();
    write_chat_token(w, head, tokenizer, t.token, t.logprob->logprob);
    w.key("top_logprobs").begin_array();
    for (const auto& [token, logprob] : t.logprob->top) {
      w.begin_object();
      write_chat_token(w, head, tokenizer, token, logprob);
      w.end_object();
    }
    w.end_array().end_object();
  }
  w.end_array().end_object();
}

// vLLM's shape: for each prompt token but the first, what else was likely there.
void write_prompt_logprobs(JsonWriter& w, const Tokenizer& tokenizer, const Choice& choice) {
  w.key("prompt_logprobs").begin_array();
  for (const auto& at : choice.prompt_logprobs) {
    if (!at) {
      w.null();
      continue;
    }
    w.begin_object();
    const auto add = [&](int32_t token, float logprob, int64_t rank) {
      w.key(cat(token)).begin_object().field("logprob", logprob).field("rank", rank);
      w.field("decoded_token", tokenizer.token_bytes(token)).end_object();
    };
    add(at->token, at->logprob, at->rank);
    for (size_t i = 0; i < at->top.size(); ++i) {
      const auto& [token, logprob] = at->top[i];
      if (token != at->token) add(token, logprob, static_cast<int64_t>(i) + 1);
    }
    w.end_object();
  }
  w.end_array();
}

void write_ids(JsonWriter& w, std::string_view name, const std::vector<int32_t>& ids) {
  w.key(name).begin_array();
  for (const int32_t id : ids) w.value(id);
  w.end_array();
}

// What an answer says of a prompt: in each choice of a completion, once beside those of a chat.
void write_prompt_fields(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer, const Choice& choice) {
  if (!choice.first) return;
  if (head.prompt_logprobs) write_prompt_logprobs(w, tokenizer, choice);
  if (head.token_ids) write_ids(w, "prompt_token_ids", choice.prompt_ids);
}

void write_choice(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer, bool chunk,
                  const Choice& choice) {
  w.begin_object().field("index", choice.index);
  if (head.kind == AnswerKind::kCompletion) {
    w.field("text", choice.text);
  } else {
    w.key(chunk ? "delta" : "message");
    write_message(w, choice, chunk);
  }
  w.key("logprobs");
  if (!head.logprobs) {
    w.null();
  } else if (head.kind == AnswerKind::kCompletion) {
    write_completion_logprobs(w, head, tokenizer, choice);
  } else {
    write_chat_logprobs(w, head, tokenizer, choice);
  }
  w.key("finish_reason");
  choice.finish ? w.value(finish_name(choice)) : w.null();
  if (head.kind == AnswerKind::kCompletion) write_prompt_fields(w, head, tokenizer, choice);
  if (head.token_ids) write_ids(w, "token_ids", choice.token_ids);
  w.end_object();
}

enum class UsageField { kAbsent, kNull, kPresent };

// One object: a whole answer (every choice once) or, with `chunk`, a stream's piece: what one choice has, or the last
// chunk with the usage alone.
void write_response(std::string& out, const ResponseHead& head, const Tokenizer& tokenizer, bool chunk,
                    std::span<Choice* const> choices, UsageField usage_field, const Usage& usage) {
  const bool chat = head.kind == AnswerKind::kChat;
  JsonWriter w(out);
  w.begin_object().field("id", head.id);
  w.field("object", !chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion");
  w.field("created", head.created).field("model", head.model).key("choices").begin_array();
  for (Choice* choice : choices) write_choice(w, head, tokenizer, chunk, *choice);
  w.end_array();
  if (chat && !choices.empty()) write_prompt_fields(w, head, tokenizer, *choices.front());
  if (usage_field == UsageField::kNull) w.key("usage").null();
  if (usage_field == UsageField::kPresent) {
    w.key("usage").begin_object().field("prompt_tokens", usage.prompt_tokens);
    w.field("completion_tokens", usage.completion_tokens);
    w.field("total_tokens", usage.prompt_tokens + usage.completion_tokens);
    w.key("prompt_tokens_details").begin_object().field("cached_tokens", usage.cached_tokens).end_object();
    if (usage.reasoning_tokens > 0) {
      w.key("completion_tokens_details").begin_object();
      w.field("reasoning_tokens", usage.reasoning_tokens).end_object();
    }
    w.end_object();
  }
  w.end_object();
}

class OpenAiWriter final : public AnswerWriter {
 public:
  OpenAiWriter(ResponseHead head, const Tokenizer& tokenizer, OpenAiStream stream)
      : head_(std::move(head)), tokenizer_(tokenizer), stream_(stream) {}

  void write_piece(std::string& out, Choice& choice, const Usage& of_choice) override {
    Choice* const one = &choice;
    const UsageField otherwise = stream_.include_usage ? UsageField::kNull : UsageField::kAbsent;
    write_event(out, {&one, 1}, stream_.continuous_usage ? UsageField::kPresent : otherwise, of_choice);
  }
  void write_end(std::string& out, const Usage& usage) override {
    if (stream_.include_usage) write_event(out, {}, UsageField::kPresent, usage);
    out += "data: [DONE]\n\n";
  }
  void write_error(std::string& out, const ApiError& error) override {
    out += cat("data: ", error.body(), "\n\ndata: [DONE]\n\n");
  }
  void write_whole(std::string& out, std::span<Choice* const> choices, const Usage& usage) override {
    write_response(out, head_, tokenizer_, false, choices, UsageField::kPresent, usage);
  }

 private:
  void write_event(std::string& out, std::span<Choice* const> choices, UsageField field, const Usage& usage) {
    out += "data: ";
    write_response(out, head_, tokenizer_, true, choices, field, usage);
    out += "\n\n";
  }

  const ResponseHead head_;
  const Tokenizer& tokenizer_;
  const OpenAiStream stream_;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_openai_writer(ResponseHead head, const Tokenizer& tokenizer, OpenAiStream stream) {
  return std::make_unique<OpenAiWriter>(std::move(head), tokenizer, stream);
}

}  // namespace hearth
