// One shape for both kinds of checkpoints.
#include "cli/generation_config.h"

#include <filesystem>

#include "weights/gguf.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFileName = "generation_config.json";

// llama.cpp's names.
Result<GenerationConfig> from_gguf(const GgufFile& file) {
  GenerationConfig out{{}, Json::object()};
  constexpr std::pair<const char*, const char*> kNumbers[] = {
      {"general.sampling.temp", "temperature"},
      {"general.sampling.top_p", "top_p"},
      {"general.sampling.min_p", "min_p"},
      {"general.sampling.penalty_repeat", "repetition_penalty"}};
  for (const auto& [key, name] : kNumbers) {
    if (!file.has(key)) continue;
    HEARTH_ASSIGN(const double value, file.number(key));
    out.fields[name] = value;
  }
  if (file.has("general.sampling.top_k")) {
    HEARTH_ASSIGN(const int64_t top_k, file.integer("general.sampling.top_k"));
    out.fields["top_k"] = top_k;
  }
  if (!out.fields.empty()) out.source = "the GGUF file's general.sampling keys";
  return out;
}

Result<GenerationConfig> from_file(const fs::path& path) {
  HEARTH_ASSIGN(const std::string text, read_text_file(path));
  auto parsed = parse_json(text);
  if (!parsed.ok()) return parsed.status().prefixed(kFileName);
  return GenerationConfig{kFileName, std::move(parsed).value()};
}

}  // namespace

Result<GenerationConfig> read_generation_config(const OpenedModel& opened, const std::string& choice) {
  const GenerationConfig nothing{{}, Json::object()};
  if (choice == "none" || choice == "vllm") return nothing;
  std::error_code ignored;
  if (choice != "auto") {
    const bool is_folder = fs::is_directory(choice, ignored);
    return from_file(is_folder ? fs::path(choice) / kFileName : fs::path(choice));
  }
  if (const GgufFile* gguf = opened.checkpoint->gguf()) return from_gguf(*gguf);
  const fs::path path = opened.path / kFileName;
  if (!is_there(path)) return nothing;
  return from_file(path);
}

}  // namespace hearth
