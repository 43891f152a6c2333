// The dataset is read whole, once, before the load starts.
#include "bench/dataset.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"

namespace hearth {
namespace {

constexpr int64_t kBytesPerToken = 4;

const std::string* turn(const Json& conversation, size_t index, std::string_view from) {
  const Json& entry = conversation[index];
  if (!entry.is_object() || !entry.contains("from") || !entry.contains("value")) return nullptr;
  if (!entry["from"].is_string() || !entry["value"].is_string()) return nullptr;
  if (entry["from"].get_ref<const std::string&>() != from) return nullptr;
  return &entry["value"].get_ref<const std::string&>();
}

int64_t tokens_of(const std::string& text) { return static_cast<int64_t>(text.size()) / kBytesPerToken; }

}  // namespace

int64_t tokens_of(const Prompt& prompt) { return tokens_of(prompt.text); }

Result<std::vector<Prompt>> read_sharegpt(const std::string& path, int64_t max_tokens) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status(Code::kNotFound, cat(path, ": cannot be read"));
  std::stringstream text;
  text << file.rdbuf();
  JsonLimits limits;
  limits.root_must_be_object = false;
  limits.max_values = 100'000'000;
  auto parsed = parse_json(text.view(), limits);
  if (!parsed.ok()) return parsed.status().prefixed(path);
  if (!parsed->is_array()) return invalid(path, ": the root must be an array of conversations");
  std::vector<Prompt> out;
  for (const Json& entry : *parsed) {
    if (!entry.is_object() || !entry.contains("conversations")) continue;
    const Json& conversation = entry["conversations"];
    if (!conversation.is_array() || conversation.size() < 2) continue;
    const std::string* question = turn(conversation, 0, "human");
    const std::string* answer = turn(conversation, 1, "gpt");
    if (question == nullptr || answer == nullptr) continue;
    const int64_t in = tokens_of(*question), reply = tokens_of(*answer);
    if (in < 4 || reply < 4 || in > max_tokens || reply > max_tokens) continue;
    Prompt prompt;
    prompt.text = *question;
    prompt.output_tokens = reply;
    out.push_back(std::move(prompt));
  }
  if (out.empty()) return invalid(path, ": no usable conversation");
  return out;
}

}  // namespace hearth
