// The vocabulary first, then the names.
#include "text/tokenizer_files.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/printable.h"
#include "text/json_members.h"
#include "text/token_names.h"

namespace hearth {
namespace {

// As transformers turns the two files into a tokenizer.json, by the class that tokenizer_config.json names.
constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Result<std::unique_ptr<Tokenizer>> from_vocab_and_merges(TokenizerFiles files, TokenNames names) {
  std::string kind = names.tokenizer_class;
  if (kind.ends_with("Fast")) kind.resize(kind.size() - 4);
  const bool qwen2 = kind == "Qwen2Tokenizer";
  if (!qwen2 && kind != "GPT2Tokenizer") {
    return unimplemented("vocab.json and merges.txt without a tokenizer.json: tokenizer_class ",
                         kind.empty() ? "is not named" : printable(kind),
                         "; GPT2Tokenizer and Qwen2Tokenizer are read");
  }
  // What the class calls its tokens where no file does.
  Json config = Json::object();
  if (files.tokenizer_config) {
    HEARTH_ASSIGN(config, parse_json(*files.tokenizer_config));
  }
  for (const char* name : {qwen2 ? "pad_token" : "bos_token", "eos_token", "unk_token"}) {
    if (names.find(name) == nullptr) config[name] = "<|endoftext|>";
  }
  files.tokenizer_config = config.dump();
  HEARTH_ASSIGN(names, read_token_names(files));

  auto vocab = parse_json(*files.vocab_json);
  if (!vocab.ok()) return vocab.status().prefixed("vocab.json");
  Json merges = Json::array();
  for (std::string_view rest = *files.merges_txt; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(line);
  }
  const Json bytes = {{"type", "ByteLevel"},
                      {"add_prefix_space", flag(config, "add_prefix_space")},
                      {"trim_offsets", true},
                      {"use_regex", !qwen2}};
  Json file;
  file["model"] = {{"type", "BPE"}, {"vocab", std::move(vocab).value()}, {"merges", std::move(merges)}};
  file["decoder"] = bytes;
  if (qwen2) {
    file["normalizer"] = {{"type", "NFC"}};
    const Json words = {
        {"type", "Split"}, {"pattern", {{"Regex", kQwen2Words}}}, {"behavior", "Isolated"}, {"invert", false}};
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({words, bytes})}};
  } else {
    file["pre_tokenizer"] = bytes;
  }
  std::string text;
  try {
    text = file.dump();
  } catch (const Json::exception&) {
    return invalid("merges.txt is not UTF-8");
  }
  return Tokenizer::from_tokenizer_json(text, names);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_tokenizer(const TokenizerFiles& files) {
  HEARTH_ASSIGN(const TokenNames names, read_token_names(files));
  if (files.tokenizer_json) return Tokenizer::from_tokenizer_json(*files.tokenizer_json, names);
  if (files.tokenizer_model) return Tokenizer::from_sentencepiece(*files.tokenizer_model, names);
  if (files.vocab_json && files.merges_txt) return from_vocab_and_merges(files, names);
  return invalid("the model's folder has neither tokenizer.json nor tokenizer.model, nor vocab.json with merges.txt");
}

}  // namespace hearth
