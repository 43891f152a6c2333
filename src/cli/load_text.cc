// In a folder: tokenizer.json, else SentencePiece's tokenizer.model; chat_template.jinja, else tokenizer_config.json's.
#include "cli/load_text.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "weights/gguf.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

constexpr int64_t kMaxTemplateBytes = 4 << 20;

Result<std::unique_ptr<Tokenizer>> tokenizer_of(const GgufTokenizer& t) {
  Vocabulary v;
  v.model = t.model;
  v.pre = t.pre;
  v.tokens.assign(t.tokens.begin(), t.tokens.end());
  v.merges.assign(t.merges.begin(), t.merges.end());
  v.scores = t.scores;
  v.types.assign(t.types.begin(), t.types.end());
  v.bos = t.bos.value_or(-1);
  v.eos = t.eos.value_or(-1);
  v.unknown = t.unknown.value_or(-1);
  // Absent, llama.cpp takes these from the kind of vocabulary.
  const bool sentencepiece = t.model == "llama";
  v.add_bos = t.add_bos.value_or(sentencepiece);
  v.add_space_prefix = t.add_space_prefix.value_or(sentencepiece);
  return Tokenizer::from_vocabulary(v);
}

Result<std::unique_ptr<Tokenizer>> stand_in_tokenizer(int64_t vocab_size) {
  Vocabulary v;
  v.model = "llama";
  for (int64_t id = 0; id < vocab_size; ++id) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    const bool is_byte = id < 256;
    const auto byte = static_cast<size_t>(id);
    v.tokens.push_back(is_byte ? cat("<0x", kHex[byte >> 4], kHex[byte & 15], ">") : cat("\u2581w", id));
    v.types.push_back(is_byte ? 6 : 1);
    v.scores.push_back(0);
  }
  return Tokenizer::from_vocabulary(v);
}

// A string, or the one called "default" of a list of named templates.
std::string template_in(const Json& config) {
  const auto at = config.find("chat_template");
  if (at == config.end()) return {};
  if (at->is_string()) return at->get<std::string>();
  if (!at->is_array()) return {};
  for (const Json& named : *at) {
    if (named.is_object() && named.value("name", "") == "default" && named.contains("template") &&
        named["template"].is_string()) {
      return named["template"].get<std::string>();
    }
  }
  return {};
}

Result<std::string> text_in(const std::filesystem::path& folder, const char* name) {
  if (!std::filesystem::exists(folder / name)) return std::string();
  return read_text_file(folder / name, confinement_of(folder));
}

}  // namespace

Result<LoadedText> load_text(const OpenedModel& opened, LoadFormat format, const std::string& template_file) {
  LoadedText out;
  std::string source;
  if (const GgufFile* gguf = opened.checkpoint->gguf()) {
    HEARTH_ASSIGN(const GgufTokenizer vocabulary, read_gguf_tokenizer(*gguf));
    HEARTH_ASSIGN(out.tokenizer, tokenizer_of(vocabulary));
    source = vocabulary.chat_template;
  } else {
    const std::filesystem::path& folder = opened.path;
    HEARTH_ASSIGN(const std::string config_text, text_in(folder, "tokenizer_config.json"));
    HEARTH_ASSIGN(const std::string tokenizer_json, text_in(folder, "tokenizer.json"));
    if (!tokenizer_json.empty()) {
      HEARTH_ASSIGN(out.tokenizer, Tokenizer::from_tokenizer_json(tokenizer_json, config_text));
    } else {
      HEARTH_ASSIGN(const std::string proto, text_in(folder, "tokenizer.model"));
      if (!proto.empty()) {
        HEARTH_ASSIGN(out.tokenizer, Tokenizer::from_sentencepiece(proto));
      } else if (format == LoadFormat::kDummy) {
        HEARTH_ASSIGN(out.tokenizer, stand_in_tokenizer(opened.config.vocab));
      } else {
        return invalid("the model's folder has neither tokenizer.json nor tokenizer.model");
      }
    }
    HEARTH_ASSIGN(source, text_in(folder, "chat_template.jinja"));
    if (source.empty() && !config_text.empty()) {
      auto config = parse_json(config_text);
      if (!config.ok()) return config.status().prefixed("tokenizer_config.json");
      source = template_in(*config);
    }
  }
  if (!template_file.empty()) {
    HEARTH_ASSIGN(source, read_text_file(template_file, {}, kMaxTemplateBytes));
  }
  if (!source.empty()) {
    auto parsed = ChatTemplate::parse(source);
    if (!parsed.ok()) return parsed.status().prefixed("chat template");
    out.chat_template.emplace(std::move(parsed).value());
  }
  return out;
}

}  // namespace hearth
