// ModelConfig: what a checkpoint says of itself, from config.json (transformers 4 and 5) or GGUF metadata, as data that
// one decoder runs. A field that would change the result and is not understood is refused by its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/status.h"
#include "models/quantization_config.h"
#include "ops/ops.h"
#include "tensor/dtype.h"
#include "weights/checkpoint.h"

namespace hearth {

enum class RopeScaling { kNone, kLinear, kDynamic, kLlama3, kYarn };

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double original_max_positions = 0.0;                   // llama3, yarn
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  double attention_factor = 1.0;                         // yarn: multiplies cosines and sines
  bool truncate = true;                                  // yarn
  std::vector<float> divisors;                           // GGUF: a divisor of each frequency, or empty
};

enum class QkNorm : uint8_t { kNone, kEachHead, kAllHeads };

struct AttentionSpec {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t rotary = 0;  // of a head's channels, the first: these are rotated
  int64_t window = 0;  // 0: all positions
  bool qkv_bias = false, out_bias = false;
  bool sinks = false;  // a logit of each head in the softmax's sum
  QkNorm qk_norm = QkNorm::kNone;
  float scale = 0;  // of q.k; 0: 1 / sqrt(head_dim)
};

// Dense, or a router's choice of experts and perhaps a shared one, which takes every token.
struct FeedForwardSpec {
  int64_t intermediate = 0;
  int64_t experts = 0, experts_per_token = 0;  // 0: dense
  Scoring scoring;                             // of experts
  bool router_bias = false, expert_bias = false;
  bool router_correction = false;   // of scores, for the choice
  int64_t shared_intermediate = 0;  // of the shared expert; 0: there is none
  bool shared_gate = false;         // its weight is a sigmoid
  Swiglu swiglu;
};

struct LayerSpec {
  AttentionSpec attention;
  FeedForwardSpec feed_forward;
};

struct ModelConfig {
  std::string architecture;  // the family's name (models/family.h)
  int64_t hidden = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;
  float rms_epsilon = 1e-6f;
  float embedding_scale = 1.0f, logits_scale = 1.0f;  // multiply them
  bool tied_head = false;
  RopeConfig rope;
  std::vector<LayerSpec> layers;
  int64_t draft_layers = 0;    // that the file has behind them, to guess further tokens; they are not used
  DType dtype = DType::kBF16;  // of the weights, as the checkpoint states it
  Quantization quantization;   // as it states it
  std::vector<int32_t> eos;    // ids that end a generation
  int32_t bos = -1;
};

// Reads config.json, generation_config.json (for its end ids) and hf_quant_config.json of a folder.
Result<ModelConfig> read_config(const std::filesystem::path& folder);
// Of a GGUF file.
Result<ModelConfig> read_gguf_config(const Checkpoint& file);

// What both must agree on; `where` is for messages.
Status check_consistent(const ModelConfig& config, const std::string& where);

// Cosines and sines for positions 0 .. max_positions - 1, f32 [max_positions, rotary]: rotary / 2 cosines, then as
// many sines. Computed in float32 as transformers does, so that angles are those that the model was trained with.
std::vector<float> rope_table(const RopeConfig& rope, int64_t rotary, int64_t max_positions);

}  // namespace hearth
