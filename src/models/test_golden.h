// The tiny checkpoints of tests/golden/models (tools/make_model_goldens.py) for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/registry.h"
#include "models/single_sequence.h"
#include "weights/safetensors.h"

namespace hearth {

constexpr int64_t kMaxTokens = 64;

inline const std::vector<std::string> kGoldens = {"llama_float32",
                                                  "llama_tied_bias",
                                                  "llama_float16_sharded",
                                                  "llama_rope_linear",
                                                  "llama_rope_dynamic",
                                                  "llama_rope_llama3",
                                                  "llama_rope_yarn",
                                                  "mistral_window",
                                                  "mixtral_fused",
                                                  "mixtral_transformers4",
                                                  "fp8_autofp8",
                                                  "fp8_compressed_channel",
                                                  "fp8_compressed_tensor",
                                                  "fp8_compressed_block",
                                                  "fp8_modelopt",
                                                  "fp8_deepseek_block",
                                                  "fp8_fused_block",
                                                  "fp8_fused_tensor",
                                                  "gguf_llama",
                                                  "gguf_k_quants",
                                                  "gguf_mixtral",
                                                  "gguf_mixtral_per_expert",
                                                  "qwen2_tied",
                                                  "qwen2_windows",
                                                  "qwen3_dense",
                                                  "qwen3_tied_bias",
                                                  "qwen3_moe",
                                                  "qwen3_moe_fused",
                                                  "olmoe",
                                                  "fp8_qwen3_moe_block",
                                                  "gguf_qwen2",
                                                  "gguf_qwen3",
                                                  "gguf_qwen3_moe",
                                                  "gguf_olmoe",
                                                  "gpt_oss",
                                                  "mxfp4_gpt_oss",
                                                  "mxfp4_gpt_oss_wide",
                                                  "gguf_mxfp4_gpt_oss",
                                                  "glm4_moe",
                                                  "glm4_moe_norms",
                                                  "gguf_glm4_moe",
                                                  "minimax_m2",
                                                  "fp8_minimax_m2_block",
                                                  "gguf_minimax_m2",
                                                  "qwen2_moe",
                                                  "gguf_qwen2_moe",
                                                  "granite",
                                                  "granitemoe",
                                                  "granitemoeshared",
                                                  "gguf_granitemoe",
                                                  "gptq_qwen2",
                                                  "gptq_v2_8bit_llama",
                                                  "awq_qwen3_moe",
                                                  "packed_llama",
                                                  "packed_zeros_llama",
                                                  "fp8_glm4_moe_channel",
                                                  "fp8_fbgemm"};

inline std::string folder_of(const std::string& name) { return "tests/golden/models/" + name; }
inline std::string model_of(const std::string& name) {
  return name.starts_with("gguf_") ? folder_of(name) + "/model.gguf" : folder_of(name);
}

inline LinearFormat unquantized_activations(const std::string& name) {
  const bool fp8 = name.starts_with("fp8_") || name.find("mxfp4") != name.npos;
  return fp8 ? LinearFormat::kStoredWeightOnly : LinearFormat::kAsStored;
}

// A golden's model on a backend, one sequence of it, and what is expected.
struct Golden {
  std::shared_ptr<Backend> backend;
  LoadedModel loaded;
  std::unique_ptr<SingleSequence> sequence;
  std::vector<int32_t> tokens;
  std::vector<float> logits, logits_w8a8, logits_fp8_kv;  // [tokens, vocab]

  static Result<Golden> open(const std::string& name, std::shared_ptr<Backend> backend, LinearFormat format,
                             bool fp8_kv_cache = false, bool expert_parallel = false) {
    Golden out;
    out.backend = std::move(backend);
    HEARTH_ASSIGN(const SafetensorsFile expected, SafetensorsFile::open(folder_of(name) + "/expected.safetensors"));
    const auto read = [&]<typename T>(const char* key, std::vector<T>& values) {
      const auto at = expected.tensors().find(std::string_view(key));
      if (at == expected.tensors().end()) return;
      values.resize(static_cast<size_t>(at->second.shape.elements()));
      std::memcpy(values.data(), at->second.data, values.size() * sizeof(T));
    };
    read("tokens", out.tokens);
    read("logits", out.logits);
    read("logits_w8a8", out.logits_w8a8);
    read("logits_fp8_kv", out.logits_fp8_kv);
    const ModelOptions options{.format = format,
                               .fp8_kv_cache = fp8_kv_cache,
                               .max_tokens = kMaxTokens,
                               .max_logits = kMaxTokens,
                               .expert_parallel = expert_parallel};
    HEARTH_ASSIGN(out.loaded, load_model(model_of(name), *out.backend, options));
    HEARTH_ASSIGN(SingleSequence sequence,
                  SingleSequence::create(*out.backend, *out.loaded.model, 128, kMaxTokens, kMaxTokens));
    out.sequence = std::make_unique<SingleSequence>(std::move(sequence));
    return out;
  }

  // Logits of every token, run in chunks of these sizes (the last repeats); tokens from `prompt` on are generated ones.
  std::vector<float> run(std::vector<size_t> chunks, size_t prompt = kMaxTokens) {
    sequence->clear();
    std::vector<float> out;
    size_t i = 0;
    for (size_t begin = 0; begin < tokens.size(); i = std::min(i + 1, chunks.size() - 1)) {
      const size_t n = std::min(chunks[i], tokens.size() - begin);
      sequence->append({tokens.data() + begin, n}, begin < prompt, static_cast<int64_t>(n));
      const auto part = sequence->download_logits();
      out.insert(out.end(), part.begin(), part.end());
      begin += n;
    }
    return out;
  }
};

// The largest difference relative to the largest logit.
inline double error(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  EXPECT_FALSE(expected.empty());
  double most = 0, difference = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    most = std::max(most, std::fabs(double{expected[i]}));
    difference = std::max(difference, std::fabs(double{found[i]} - double{expected[i]}));
    if (std::isnan(found[i])) return INFINITY;
  }
  return difference / most;
}

}  // namespace hearth
