// One writer for four shapes: they differ in where a choice's text stands and how its log-probabilities look.
#include "api/responses.h"

#include <algorithm>
#include <unordered_set>

#include "api/json_writer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace hearth {
namespace {

const char* finish_name(FinishReason reason) { return reason == FinishReason::kLength ? "length" : "stop"; }

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

// Completions name a token that is a part of a character by its bytes, as OpenAI did: "bytes:\xf0\x9f". Different
// tokens so keep different names.
std::string completion_token(const Tokenizer& tokenizer, int32_t id) {
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
void write_top_of_completion(JsonWriter& w, const Tokenizer& tokenizer, const TokenLogprob& at) {
  std::unordered_set<std::string> names;
  const auto add = [&](int32_t token, float logprob) {
    const auto [name, is_new] = names.insert(completion_token(tokenizer, token));
    if (is_new) w.field(*name, logprob);
  };
  w.begin_object();
  for (const auto& [token, logprob] : at.top) add(token, logprob);
  add(at.token, at.logprob);
  w.end_object();
}

void write_completion_logprobs(JsonWriter& w, const Tokenizer& tokenizer, Choice& choice) {
  w.begin_object().key("text_offset").begin_array();
  std::vector<std::string> names;
  for (const OutputToken& t : choice.tokens) {
    w.value(choice.text_offset);
    names.push_back(completion_token(tokenizer, t.token));
    choice.text_offset += characters(names.back());
  }
  w.end_array().key("tokens").begin_array();
  for (const std::string& name : names) w.value(name);
  w.end_array().key("token_logprobs").begin_array();
  for (const OutputToken& t : choice.tokens) t.logprob ? w.value(t.logprob->logprob) : w.null();
  w.end_array().key("top_logprobs").begin_array();
  for (const OutputToken& t : choice.tokens) {
    if (t.logprob) {
      write_top_of_completion(w, tokenizer, *t.logprob);
    } else {
      w.null();
    }
  }
  w.end_array().end_object();
}

void write_chat_token(JsonWriter& w, const Tokenizer& tokenizer, int32_t token, float logprob) {
  const std::string_view bytes = tokenizer.token_bytes(token);
  w.field("token", bytes).field("logprob", logprob).key("bytes").begin_array();
  for (const char c : bytes) w.value(static_cast<int>(static_cast<unsigned char>(c)));
  w.end_array();
}

void write_chat_logprobs(JsonWriter& w, const Tokenizer& tokenizer, const Choice& choice) {
  w.begin_object().key("content").begin_array();
  for (const OutputToken& t : choice.tokens) {
    if (!t.logprob) continue;
    w.begin_object();
    write_chat_token(w, tokenizer, t.token, t.logprob->logprob);
    w.key("top_logprobs").begin_array();
    for (const auto& [token, logprob] : t.logprob->top) {
      w.begin_object();
      write_chat_token(w, tokenizer, token, logprob);
      w.end_object();
    }
    w.end_array().end_object();
  }
  w.end_array().end_object();
}

void write_choice(JsonWriter& w, const ResponseHead& head, const Tokenizer& tokenizer, bool chunk, Choice& choice) {
  w.begin_object().field("index", choice.index);
  if (head.kind == AnswerKind::kCompletion) {
    w.field("text", choice.text);
  } else {
    w.key(chunk ? "delta" : "message").begin_object();
    if (choice.first) w.field("role", "assistant");
    w.field("content", choice.text).end_object();
  }
  w.key("logprobs");
  if (!head.logprobs) {
    w.null();
  } else if (head.kind == AnswerKind::kCompletion) {
    write_completion_logprobs(w, tokenizer, choice);
  } else {
    write_chat_logprobs(w, tokenizer, choice);
  }
  w.key("finish_reason");
  choice.finish ? w.value(finish_name(*choice.finish)) : w.null();
  w.end_object();
}

}  // namespace

void write_response(std::string& out, const ResponseHead& head, const Tokenizer& tokenizer, bool chunk,
                    std::span<Choice* const> choices, UsageField usage_field, const Usage& usage) {
  const bool chat = head.kind == AnswerKind::kChat;
  JsonWriter w(out);
  w.begin_object().field("id", head.id);
  w.field("object", !chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion");
  w.field("created", head.created).field("model", head.model).key("choices").begin_array();
  for (Choice* choice : choices) write_choice(w, head, tokenizer, chunk, *choice);
  w.end_array();
  if (usage_field == UsageField::kNull) w.key("usage").null();
  if (usage_field == UsageField::kPresent) {
    w.key("usage").begin_object().field("prompt_tokens", usage.prompt_tokens);
    w.field("completion_tokens", usage.completion_tokens);
    w.field("total_tokens", usage.prompt_tokens + usage.completion_tokens);
    w.key("prompt_tokens_details").begin_object().field("cached_tokens", usage.cached_tokens).end_object().end_object();
  }
  w.end_object();
}

}  // namespace hearth
