// In a folder: tokenizer.json, else SentencePiece's tokenizer.model, else vocab.json and merges.txt;
// chat_template.jinja, else tokenizer_config.json's.
#include "cli/load_text.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "text/end_of_turn.h"
#include "text/tokenizer_files.h"
#include "text/vocabulary.h"
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
  v.padding = t.padding.value_or(-1);
  // Absent, llama.cpp takes these from the kind of vocabulary.
  const bool sentencepiece = t.model == "llama";
  v.add_bos = t.add_bos.value_or(adds_bos_by_default(t.model, t.pre));
  v.add_eos = t.add_eos.value_or(false);
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

// A string, or the one called "default" of a list of named templates; empty where there is none.
Result<std::string> template_in(const Json& config) {
  const auto at = config.find("chat_template");
  if (at == config.end() || at->is_null()) return std::string();
  if (at->is_string()) return at->get<std::string>();
  if (!at->is_array()) return invalid("chat_template: expected a string or a list of named templates");
  std::string chosen;
  for (const Json& named : *at) {
    const auto member = [&](const char* key) {
      const auto found = named.is_object() ? named.find(key) : named.end();
      return found != named.end() && found->is_string() ? &found->get_ref<const std::string&>() : nullptr;
    };
    const std::string *name = member("name"), *source = member("template");
    if (name == nullptr || source == nullptr) return invalid("chat_template: expected a name and a template in each");
    if (*name == "default") {
      chosen = *source;
    } else {
      log_info("tokenizer_config.json: the chat template ", printable(*name), " is not used");
    }
  }
  if (chosen.empty()) log_warning("tokenizer_config.json: no chat template is called default: there is none");
  return chosen;
}

}  // namespace

Result<LoadedText> load_text(const OpenedModel& opened, LoadFormat format, const std::string& template_file) {
  LoadedText out;
  std::string source;
  if (const GgufFile* gguf = opened.checkpoint->gguf()) {
    HEARTH_ASSIGN(const GgufTokenizer vocabulary, read_gguf_tokenizer(*gguf));
    HEARTH_ASSIGN(out.tokenizer, tokenizer_of(vocabulary));
    source = vocabulary.chat_template;
    for (const std::string_view key : gguf->unread_keys()) {
      if (key.starts_with("tokenizer.chat_template.")) log_info(printable(key), ": this chat template is not used");
    }
  } else {
    const std::filesystem::path& folder = opened.path;
    TokenizerFiles files;
    for (const auto& [name, text] :
         {std::pair{"tokenizer.json", &files.tokenizer_json}, std::pair{"tokenizer.model", &files.tokenizer_model},
          std::pair{"vocab.json", &files.vocab_json}, std::pair{"merges.txt", &files.merges_txt},
          std::pair{"tokenizer_config.json", &files.tokenizer_config},
          std::pair{"special_tokens_map.json", &files.special_tokens_map},
          std::pair{"added_tokens.json", &files.added_tokens}}) {
      HEARTH_ASSIGN(*text, read_text_file_if_there(folder / name));
    }
    if (format == LoadFormat::kDummy && !files.tokenizer_json && !files.tokenizer_model && !files.vocab_json) {
      HEARTH_ASSIGN(out.tokenizer, stand_in_tokenizer(opened.config.vocab));
    } else {
      HEARTH_ASSIGN(out.tokenizer, make_tokenizer(files));
    }
    const auto& config = files.tokenizer_config;
    if (is_there(folder / "additional_chat_templates")) {
      log_info("additional_chat_templates: chat templates beside the default one are not used");
    }
    HEARTH_ASSIGN(const auto template_in_file, read_text_file_if_there(folder / "chat_template.jinja"));
    if (template_in_file) {
      source = *template_in_file;
    } else if (config) {
      auto parsed = parse_json(*config);
      if (!parsed.ok()) return parsed.status().prefixed("tokenizer_config.json");
      auto found = template_in(*parsed);
      if (!found.ok()) return found.status().prefixed("tokenizer_config.json");
      source = std::move(found).value();
    }
  }
  if (!template_file.empty()) {
    HEARTH_ASSIGN(source, read_text_file(template_file, kMaxTemplateBytes));
  }
  if (!source.empty()) {
    auto parsed = ChatTemplate::parse(source);
    if (!parsed.ok()) return parsed.status().prefixed("chat template");
    out.chat_template.emplace(std::move(parsed).value());
    out.template_source = std::move(source);
    out.end_of_turn = end_of_turn(*out.chat_template, *out.tokenizer);
  }
  return out;
}

}  // namespace hearth
