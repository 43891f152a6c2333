#include "text/tokenizer_files.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "text/vocabulary.h"

namespace hearth {
namespace {

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TokenizerFiles files_of(const Json& stored) {
  TokenizerFiles out;
  for (const auto& [name, text] :
       {std::pair{"tokenizer.json", &out.tokenizer_json}, std::pair{"vocab.json", &out.vocab_json},
        std::pair{"merges.txt", &out.merges_txt}, std::pair{"tokenizer_config.json", &out.tokenizer_config},
        std::pair{"special_tokens_map.json", &out.special_tokens_map},
        std::pair{"added_tokens.json", &out.added_tokens}}) {
    if (stored.contains(name)) *text = stored[name].get<std::string>();
  }
  return out;
}

TEST(TokenizerFiles, TokensAsTransformersNamesThem) {
  const Json stored = parse_json(read_file("tests/golden/text/tokenizer_folders.json")).value();
  ASSERT_GT(stored["cases"].size(), 10u);
  for (const Json& expected : stored["cases"]) {
    SCOPED_TRACE(expected["name"].get<std::string>());
    const auto made = make_tokenizer(files_of(expected["files"]));
    ASSERT_TRUE(made.ok()) << made.status().message();
    const Tokenizer& tokenizer = **made;
    std::map<std::string, std::string> names(tokenizer.names().begin(), tokenizer.names().end());
    EXPECT_EQ(Json(names), Json((expected["names"].get<std::map<std::string, std::string>>())));
    EXPECT_EQ(Json(tokenizer.bos() ? Json(*tokenizer.bos()) : Json()), expected["bos"]);
    EXPECT_EQ(Json(tokenizer.eos() ? Json(*tokenizer.eos()) : Json()), expected["eos"]);
    for (size_t i = 0; i < stored["texts"].size(); ++i) {
      const auto ids = tokenizer.encode(stored["texts"][i].get<std::string>(), {.parse_special = true});
      ASSERT_TRUE(ids.ok());
      EXPECT_EQ(Json(*ids), expected["ids"][i]) << stored["texts"][i];
      EXPECT_EQ(tokenizer.decode(*ids, true), expected["text"][i].get<std::string>()) << stored["texts"][i];
    }
  }
}

TEST(TokenizerFiles, VocabAndMergesOfAnotherClassAreRefused) {
  TokenizerFiles files{.vocab_json = R"({"a":0})", .merges_txt = ""};
  const auto message = [&] { return std::string(make_tokenizer(files).status().message()); };
  const std::string_view begin = "vocab.json and merges.txt without a tokenizer.json: tokenizer_class ";
  EXPECT_EQ(message(), cat(begin, "is not named; GPT2Tokenizer and Qwen2Tokenizer are read"));
  files.tokenizer_config = R"({"tokenizer_class":"RobertaTokenizer"})";
  EXPECT_EQ(message(), cat(begin, "RobertaTokenizer; GPT2Tokenizer and Qwen2Tokenizer are read"));
  files.tokenizer_config = R"({"tokenizer_class":"GPT2TokenizerFast"})";
  files.vocab_json = "[]";
  EXPECT_TRUE(message().starts_with("vocab.json: ")) << message();
  files.vocab_json = R"({"a":0})";
  files.merges_txt = "\xff b";
  EXPECT_EQ(message(), "merges.txt is not UTF-8");
  files.merges_txt.reset();
  EXPECT_TRUE(message().starts_with("the model's folder has neither")) << message();
}

// SentencePiece alone: what the small files add and name, in the way of 2023's fine-tunes.
TEST(TokenizerFiles, SentencePieceWithAddedTokens) {
  TokenizerFiles files{.tokenizer_model = read_file(".cache/models/mixtral-tokenizer.model"),
                       .special_tokens_map = R"({"eos_token":"<|im_end|>","bos_token":"<s>","pad_token":"<unk>"})",
                       .added_tokens = R"({"<|im_end|>":32000,"<|im_start|>":32001})"};
  const auto made = make_tokenizer(files);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ((*made)->eos(), 32000);
  EXPECT_EQ((*made)->bos(), 1);
  EXPECT_TRUE((*made)->is_special(32000));
  EXPECT_FALSE((*made)->is_special(32001));
  const auto ids = *(*made)->encode("<|im_start|>a<|im_end|>", {.add_special = true, .parse_special = true});
  ASSERT_EQ(ids.size(), 4u);
  EXPECT_EQ(ids[0], 1);
  EXPECT_EQ(ids[1], 32001);
  EXPECT_EQ(ids[3], 32000);
  files.tokenizer_config = R"({"add_bos_token":false,"add_eos_token":true})";
  EXPECT_EQ((*make_tokenizer(files))->encode("", {.add_special = true})->back(), 32000);
  files.added_tokens = R"({"<|im_end|>":32001})";
  EXPECT_EQ(make_tokenizer(files).status().message(),
            "tokenizer.model: the files beside it add token 32001, expected 32000");
}

TEST(Vocabulary, BeginsATextAsLlamaCppDoesWhereTheFileDoesNotSay) {
  for (const char* pre : {"llama-bpe", "falcon3", "tekken", "pixtral"}) EXPECT_TRUE(adds_bos_by_default("gpt2", pre));
  for (const char* pre : {"qwen2", "smollm", "gpt-2", "unknown"}) EXPECT_FALSE(adds_bos_by_default("gpt2", pre));
  EXPECT_TRUE(adds_bos_by_default("llama", "default"));
}

// Which merges a family's way to cut words allows: GLM's has at most three digits, MiniMax's ends a word before a
// capital.
TEST(Vocabulary, CutsWordsAsTheFamilyDoes) {
  const auto count = [](const char* pre, const char* text) {
    Vocabulary v{.model = "gpt2", .pre = pre};
    v.tokens = {"1", "2", "3", "4", "a", "B", "12", "34", "1234", "aB"};
    v.types.assign(v.tokens.size(), 1);
    v.merges = {"1 2", "3 4", "12 34", "a B"};
    const auto tokenizer = Tokenizer::from_vocabulary(std::move(v));
    EXPECT_TRUE(tokenizer.ok()) << pre << ": " << tokenizer.status().message();
    return tokenizer.ok() ? (*tokenizer)->encode(text)->size() : 0;
  };
  EXPECT_EQ(count("gpt-2", "1234"), 1u);
  EXPECT_EQ(count("gpt-2", "aB"), 1u);
  for (const char* pre : {"glm4", "chatglm-bpe"}) {
    EXPECT_EQ(count(pre, "1234"), 3u) << "12, 3, 4";
    EXPECT_EQ(count(pre, "aB"), 1u);
  }
  EXPECT_EQ(count("minimax-m2", "1234"), 3u);
  EXPECT_EQ(count("minimax-m2", "aB"), 2u);
  EXPECT_EQ(count("qwen2", "1234"), 4u);
}

TEST(TokenizerFiles, RefusesByTheFilesName) {
  constexpr const char* kTokenizer = R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})";
  const auto refusal = [&](TokenizerFiles files) {
    if (!files.tokenizer_json) files.tokenizer_json = kTokenizer;
    const auto made = make_tokenizer(files);
    return made.ok() ? "" : made.status().message();
  };
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({.special_tokens_map = "{"}), "special_tokens_map.json: JSON: syntax error at byte 2");
  EXPECT_EQ(refusal({.special_tokens_map = R"({"eos_token":1})"}),
            "special_tokens_map.json: eos_token: expected a token");
  EXPECT_EQ(refusal({.added_tokens = R"({"x":-1})"}), "added_tokens.json: expected tokens with an id each");
  EXPECT_EQ(refusal({.tokenizer_config = R"({"split_special_tokens":true})"}),
            "tokenizer_config.json: split_special_tokens: expected false, found true");
  EXPECT_EQ(refusal({.tokenizer_config = R"({"added_tokens_decoder":{"x":{"content":"y"}}})"}),
            "tokenizer_config.json: added_tokens_decoder: expected ids with a content each");
  EXPECT_EQ(refusal({.tokenizer_json = R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],"novelty":1}})"}),
            "tokenizer.json: model: a member that is not known: novelty");
  EXPECT_EQ(refusal({.tokenizer_json = R"({"model":{"vocab":{},"merges":[]},"normalizer":{"type":"NFC","x":1}})"}),
            "tokenizer.json: normalizer: a member that is not known: x");
  EXPECT_EQ(make_tokenizer({}).status().message(),
            "the model's folder has neither tokenizer.json nor tokenizer.model, nor vocab.json with merges.txt");
}

}  // namespace
}  // namespace hearth
