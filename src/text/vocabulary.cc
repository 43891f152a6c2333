// A tokenizer from a GGUF file's vocabulary: "gpt2" is byte-level with merges, "llama" is SentencePiece with scores.
#include "text/vocabulary.h"

#include <algorithm>

#include "text/tokenizer_parts.h"

namespace hearth {
namespace {

enum TokenType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct Pre {
  std::string_view name;
  const WordPattern& words;
  bool digits_apart = false;  // each digit on its own, before all else
  bool whole_pieces_first = false;
  bool nfc = false;  // as the published tokenizer.json; GGUF does not say
};
constexpr Pre kPres[] = {
    {"gpt-2", kGpt2Words},
    {"phi-2", kGpt2Words},
    {"olmo", kGpt2Words},
    {"smollm", kGpt2Words, true},
    {"starcoder", kGpt2Words, true},
    {"refact", kGpt2Words, true},
    {"command-r", kGpt2Words, true},
    {"codeshell", kGpt2Words, true},
    {"exaone", kGpt2Words, true},
    {"llama3", kLlama3Words, false, true},
    {"llama-v3", kLlama3Words, false, true},
    {"llama-bpe", kLlama3Words, false, true},
    {"falcon3", kLlama3Words, false, true},
    {"falcon-h1", kLlama3Words, false, true},
    {"lfm2", kLlama3Words, false, true},
    {"midm-2.0", kLlama3Words, false, true},
    {"pixtral", kLlama3Words, false, true},
    {"dbrx", kLlama3Words},
    {"glm4", kLlama3Words},
    {"chatglm-bpe", kLlama3Words},
    {"smaug-bpe", kLlama3Words},
    {"qwen2", kQwen2Words, false, false, true},
    {"deepseek-r1-qwen", kQwen2Words},
    {"stablelm2", kQwen2Words},
    {"megrez", kQwen2Words},
    {"qwen35", kQwen35Words, false, false, true},
    {"gpt-4o", kGpt4oWords},
    {"llama4", kGpt4oWords},
    {"minimax-m2", kGpt4oWords},
    {"tekken", kTekkenWords, false, true},
};

Status add_gpt2(const Vocabulary& vocabulary, TokenizerParts& parts) {
  const auto* pre = std::ranges::find(kPres, vocabulary.pre, &Pre::name);
  if (pre == std::end(kPres)) return unimplemented("tokenizer.ggml.pre: a pre-tokenizer that is not known");
  if (pre->digits_apart) parts.splitters.push_back({Splitter::Class::kDigit});
  if (pre->nfc) parts.rewrites.push_back({Rewrite::Kind::kNfc, "", ""});
  parts.splitters.push_back({pre->words});
  parts.whole_pieces_first = pre->whole_pieces_first;
  use_byte_level(parts);
  parts.bpe.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    HEARTH_TRY(add_merge(parts, vocabulary.merges[rank], static_cast<int32_t>(rank)));
  }
  return {};
}

Status add_llama(const Vocabulary& vocabulary, TokenizerParts& parts) {
  if (vocabulary.scores.size() != vocabulary.tokens.size()) {
    return invalid("tokenizer.ggml.scores: ", vocabulary.scores.size(), " for ", vocabulary.tokens.size(), " tokens");
  }
  if (vocabulary.add_space_prefix) parts.rewrites.push_back({Rewrite::Kind::kPrepend, "", " "});
  parts.rewrites.push_back({Rewrite::Kind::kReplace, " ", "\u2581"});
  parts.strip_leading_space = vocabulary.add_space_prefix;
  use_metaspace(parts);
  return add_merges_by_score(parts, vocabulary.scores);
}

}  // namespace

bool adds_bos_by_default(std::string_view model, std::string_view pre) {
  if (model == "llama") return true;
  const auto* known = std::ranges::find(kPres, pre, &Pre::name);
  return known != std::end(kPres) && known->whole_pieces_first;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_vocabulary(const Vocabulary& vocabulary) {
  auto parts = std::make_unique<TokenizerParts>();
  const auto count = static_cast<int64_t>(vocabulary.tokens.size());
  if (count == 0) return invalid("tokenizer.ggml.tokens is empty");
  if (!vocabulary.types.empty() && vocabulary.types.size() != vocabulary.tokens.size()) {
    return invalid("tokenizer.ggml.token_type: ", vocabulary.types.size(), " for ", count, " tokens");
  }
  for (int64_t id = 0; id < count; ++id) {
    const std::string& text = vocabulary.tokens[static_cast<size_t>(id)];
    const int32_t type = vocabulary.types.empty() ? kNormal : vocabulary.types[static_cast<size_t>(id)];
    const bool special = type == kControl || type == kUnknown;
    // SentencePiece finds a user-defined piece after spaces have become marks, and spells it with marks.
    const bool spelled = type == kUserDefined && (vocabulary.model == "gpt2" || id >= vocabulary.first_added);
    HEARTH_TRY(parts->add_token(id, {text, special || spelled ? text : "", special}));
    if (special || type == kUserDefined) {
      auto& added = special || spelled ? parts->added : parts->added_after_rewrite;
      HEARTH_TRY(added.add({static_cast<int32_t>(id), text, special}));
    }
  }
  const auto known_id = [&](int64_t id, std::string_view name) -> Result<std::optional<int32_t>> {
    if (id < 0) return std::optional<int32_t>();
    if (id >= count) return invalid("tokenizer.ggml.", name, "_token_id ", id, " is not in the vocabulary");
    return std::optional<int32_t>(static_cast<int32_t>(id));
  };
  HEARTH_ASSIGN(parts->bos, known_id(vocabulary.bos, "bos"));
  HEARTH_ASSIGN(parts->eos, known_id(vocabulary.eos, "eos"));
  HEARTH_ASSIGN(const auto unknown, known_id(vocabulary.unknown, "unknown"));
  HEARTH_ASSIGN(const auto padding, known_id(vocabulary.padding, "padding"));
  for (const auto& [name, id] : {std::pair{"bos_token", parts->bos}, std::pair{"eos_token", parts->eos},
                                 std::pair{"unk_token", unknown}, std::pair{"pad_token", padding}}) {
    if (id) parts->names.emplace_back(name, vocabulary.tokens[static_cast<size_t>(*id)]);
  }
  for (const auto& named : vocabulary.names) {
    std::erase_if(parts->names, [&](const auto& known) { return known.first == named.first; });
    parts->names.push_back(named);
  }
  if (vocabulary.add_bos && parts->bos) parts->prefix = {*parts->bos};
  if (vocabulary.add_eos && parts->eos) parts->suffix = {*parts->eos};
  if (vocabulary.model == "gpt2") {
    HEARTH_TRY(add_gpt2(vocabulary, *parts));
  } else if (vocabulary.model == "llama") {
    parts->unknown = unknown;
    HEARTH_TRY(add_llama(vocabulary, *parts));
  } else {
    return unimplemented("tokenizer.ggml.model: neither gpt2 nor llama");
  }
  return std::make_unique<Tokenizer>(std::move(parts));
}

}  // namespace hearth
