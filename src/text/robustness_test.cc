// Random and damaged inputs: every maker, encoder and parser answers or refuses, and never crashes (run it with the
// sanitizers).
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "text/chat_template.h"
#include "text/token_names.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

namespace hearth {
namespace {

std::string random_bytes(std::mt19937& random, size_t most) {
  std::string out(random() % most, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

// Some bytes changed, cut or doubled.
std::string damaged(std::mt19937& random, std::string text) {
  for (uint32_t n = 1 + random() % 4; n > 0 && !text.empty(); --n) {
    const size_t at = random() % text.size();
    switch (random() % 4) {
      case 0: text[at] = static_cast<char>(random()); break;
      case 1: text.erase(at, 1 + random() % 8); break;
      case 2: text.insert(at, text.substr(random() % text.size(), random() % 16)); break;
      default:
        if (random() % 8 == 0) text.resize(at);
    }
  }
  return text;
}

void use(const Result<std::unique_ptr<Tokenizer>>& tokenizer, std::mt19937& random) {
  if (!tokenizer.ok()) return;
  for (const std::string& text : {random_bytes(random, 64), std::string("Hello \u00E9\u4E2D 123</s><s>")}) {
    const auto ids = (*tokenizer)->encode(text, {.add_special = true, .parse_special = true});
    if (ids.ok()) (*tokenizer)->decode(*ids, false);
  }
  (*tokenizer)->decode({-1, 0, 1, 1 << 30, static_cast<int32_t>((*tokenizer)->vocab_size())}, false);
}

constexpr std::string_view kTokenizerJson = R"({"added_tokens":[{"id":5,"content":"<s>","special":true,"lstrip":true},
  {"id":6,"content":"b c","normalized":true,"single_word":true}],
 "normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Prepend","prepend":"\u2581"},
  {"type":"Replace","pattern":{"String":" "},"content":"\u2581"},{"type":"Strip"}]},
 "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},
  {"type":"Split","pattern":{"Regex":"(a+)+$|\\s+|[^\\s]"},"behavior":"MergedWithNext","invert":false}]},
 "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],
  "special_tokens":{"<s>":{"ids":[5]}}},
 "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},
  {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
 "model":{"type":"BPE","unk_token":"u","fuse_unk":true,"byte_fallback":true,"vocab":{"u":0,"a":1,"b":2,"ab":3,"<0x0A>":4},
  "merges":["a b"]}})";

constexpr std::string_view kConfig =
    R"({"bos_token":{"content":"<s>","lstrip":true},"eos_token":"</s>","pad_token":null,
  "extra_special_tokens":["<x>"],"image_token":"<i>","added_tokens_decoder":{"5":{"content":"<s>"},"7":{"content":"</s>"}}})";
constexpr std::string_view kMap = R"({"eos_token":"<s>","additional_special_tokens":["a",{"content":"b"}]})";
constexpr std::string_view kAdded = R"({"<y>":7,"<z>":8})";

TEST(Robustness, TokenizerJson) {
  std::mt19937 random(1);
  use(Tokenizer::from_tokenizer_json(kTokenizerJson, {}), random);
  ASSERT_TRUE(Tokenizer::from_tokenizer_json(kTokenizerJson, {}).ok());
  for (int round = 0; round < 3000; ++round) {
    use(Tokenizer::from_tokenizer_json(damaged(random, std::string(kTokenizerJson)), {}), random);
    use(make_tokenizer({.tokenizer_json = damaged(random, std::string(kTokenizerJson)),
                        .tokenizer_config = damaged(random, std::string(kConfig)),
                        .special_tokens_map = damaged(random, std::string(kMap)),
                        .added_tokens = damaged(random, std::string(kAdded))}),
        random);
  }
}

TEST(Robustness, SentencePiece) {
  std::ifstream file(".cache/models/mixtral-tokenizer.model", std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  ASSERT_GT(whole.size(), 400'000u);
  // The first pieces, and the specifications at the end.
  const std::string proto = whole.substr(0, 4000) + whole.substr(whole.size() - 900);
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    use(Tokenizer::from_sentencepiece(damaged(random, proto), {}), random);
    use(Tokenizer::from_sentencepiece(random_bytes(random, 200), {}), random);
  }
}

TEST(Robustness, Vocabulary) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    Vocabulary vocabulary{.model = random() % 2 ? "gpt2" : "llama", .pre = "smollm"};
    for (uint32_t n = random() % 20; n > 0; --n) {
      vocabulary.tokens.push_back(random() % 2 ? random_bytes(random, 4) : std::string(1 + random() % 3, 'a'));
      vocabulary.scores.push_back(static_cast<float>(random() % 5));
      vocabulary.types.push_back(static_cast<int32_t>(random() % 8));
    }
    if (random() % 2) vocabulary.merges.push_back("a a");
    vocabulary.bos = static_cast<int64_t>(random() % 24) - 2;
    vocabulary.add_bos = vocabulary.add_space_prefix = random() % 2;
    use(Tokenizer::from_vocabulary(vocabulary), random);
  }
}

TEST(Robustness, ChatTemplates) {
  const std::string source =
      "{%- macro f(a, b=2) %}{{ a ~ b }}{% endmacro %}{% set ns = namespace(x=0) %}{% for m in messages if m.role != "
      "'x' %}"
      "{% if loop.first and m['content'] is string %}{{- f(m.content | trim, loop.index // 2) }}{% elif not m %}{% "
      "break %}"
      "{% else %}{{ m | tojson(indent=2) }}{% endif %}{% set ns.x = ns.x + 1 %}{% endfor %}{# c #}"
      "{% set t %}{{ messages[1:][::-1] | map(attribute='role') | join(', ') }}{% endset %}{{ t.split(',')[0] if t "
      "else {'a': [1.5]} }}";
  const Json variables = {
      {"messages", {{{"role", "user"}, {"content", " hi "}}, {{"role", "tool"}, {"content", {1, "x"}}}}}};
  std::mt19937 random(4);
  ASSERT_TRUE(ChatTemplate::parse(source)->render(variables, 0).ok());
  for (int round = 0; round < 10'000; ++round) {
    const auto parsed = ChatTemplate::parse(round % 4 == 0 ? random_bytes(random, 100) : damaged(random, source));
    if (parsed.ok()) static_cast<void>(parsed->render(variables, 0, {.max_steps = 20'000, .max_output_bytes = 10'000}));
  }
}

TEST(Robustness, TemplateExpressions) {
  std::ifstream file("tests/golden/text/jinja_expressions.json");
  const auto stored = parse_json(std::string{std::istreambuf_iterator<char>(file), {}});
  ASSERT_TRUE(stored.ok());
  std::mt19937 random(5);
  for (const Json& entry : (*stored)["cases"]) {
    for (int round = 0; round < 5; ++round) {
      const auto parsed = ChatTemplate::parse(damaged(random, entry[0]));
      if (parsed.ok()) static_cast<void>(parsed->render((*stored)["variables"], 0, {20'000, 100'000, 10'000}));
    }
  }
}

}  // namespace
}  // namespace hearth
