// For tests: GGUF files written to order, wrong ones too.
#pragma once

#include "weights/gguf.h"
#include "weights/test_files.h"

namespace hearth::test {

inline std::string text(std::string_view s) { return raw(uint64_t{s.size()}).append(s); }
inline std::string value(std::string_view key, GgufType type, const std::string& bytes) {
  return text(key) + raw(static_cast<uint32_t>(type)) + bytes;
}
inline std::string array(GgufType type, uint64_t count, const std::string& bytes) {
  return raw(static_cast<uint32_t>(type)) + raw(count) + bytes;
}
inline std::string tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
  std::string out = text(name) + raw(static_cast<uint32_t>(dims.size()));
  for (const uint64_t d : dims) out += raw(d);
  return out + raw(type) + raw(offset);
}

// A GGUF file's parts; each test breaks one.
struct GgufParts {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> values = {value("general.architecture", GgufType::kString, text("llama")),
                                     value("llama.attention.head_count", GgufType::kU32, raw(uint32_t{2}))};
  std::vector<std::string> tensors = {tensor("token_embd.weight", {32, 2}, 8, 0),
                                      tensor("blk.0.attn_q.weight", {32, 4}, 0, 96)};
  uint64_t num_values = 0, num_tensors = 0;  // where not 0, a wrong count
  size_t data_bytes = 96 + 32 * 4 * 4;

  std::string bytes() const {
    std::string out = magic + raw(version) + raw(num_tensors ? num_tensors : uint64_t{tensors.size()}) +
                      raw(num_values ? num_values : uint64_t{values.size()});
    for (const std::string& v : values) out += v;
    for (const std::string& t : tensors) out += t;
    out.resize((out.size() + 31) / 32 * 32);
    return out + std::string(data_bytes, 0);
  }
};

}  // namespace hearth::test
