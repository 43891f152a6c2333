// Ops: all that a model may ask of a backend, at the grain at which a GPU fuses. The CPU backend (cpu/) is the meaning
// of every op; a CUDA kernel is right when it agrees with it within the bound its test states.
//
// Types. An activation ("act" below) is f32, f16 or bf16, one type for a whole model; arithmetic is f32 throughout. A
// value is rounded where it is stored, nowhere else. Results of a row depend on that row (and its sequence) alone, to
// the bit: never on the other rows of the step, on their number, or on how a prompt was cut into chunks.
//
// FP8 recipe (e4m3, one definition for weights, activations and KV): scale = max|x| / most and
// inverse = most / max|x|, each a correctly rounded f32 division (both 1 where the maximum is 0, or so small that the
// inverse overflows); q = x * inverse rounded to nearest even e4m3, saturating; most is 448, or what is said below.
// Activations: a scale per token where the weights they meet have one per channel, most = 112, so that sums of products
// fit float16 (e4m3 has an exponent of its own: the largest need not stand at its end); a scale per token and 128
// channels (the last group may be short; a group that is all of them counts as a token's) where weights have one per
// 128x128 block; none where the checkpoint fixes one for all tokens, which is then part of the scales of the weights
// that make the activation (before the output projection, of attention's factor) and of those that meet it (q = x,
// saturating at 112). (Finer scales gain little accuracy, and cost a product a quarter of its speed.) Products: partial
// sums of 128 of K (the last may be short) are added to the f32 total in order of K, times activation scale and weight
// scale (1 for an activation that is not quantized); a scale that is the same for all of K may multiply the total
// instead (a GPU does so, and sums 1,024 of K at a time in float16, of weights in units of its choice).
//
// Sizes. The host knows a step's numbers of rows (the first dimension of its tensors), and the CPU uses those. A
// captured graph is launched with its bucket's and reads the true ones on the device: `num_rows`, i32 [1], a view into
// Batch::sizes, or empty where all rows count; rows beyond it may or may not be written, KV slots are not.
//
// Memory. mlp, experts and attention need more than their arguments; the backend reserves it when a model is loaded
// (Backend::reserve_*).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "ops/batch.h"
#include "tensor/host_matrix.h"
#include "tensor/tensor.h"

namespace hearth {

// What a linear layer reads, in the form its weight wants: 16/32-bit values, or e4m3 with scales. A model gets the
// memory from Backend::input_of and never asks which.
struct Activation {
  Tensor data;    // [num_tokens, dim] act or e4m3
  Tensor scales;  // where data is e4m3: f32 [1, max_tokens], or [ceil(dim / 128), max_tokens]: tokens are contiguous;
                  // or empty: each is 1
  // The first `count` rows.
  Activation rows(int64_t count) const { return {data.rows(0, count), scales}; }
};

enum class ActivationScales : uint8_t { kPerGroup, kPerToken, kNone };

// The Activation that a linear layer wants.
struct InputType {
  DType dtype = DType::kF32;                              // e4m3 where products run in FP8, else act
  ActivationScales scales = ActivationScales::kPerGroup;  // where e4m3
  bool per_token() const { return dtype == DType::kE4M3 && scales == ActivationScales::kPerToken; }
  // How many scales each token of `dim` channels has.
  int64_t scale_groups(int64_t dim) const {
    if (dtype != DType::kE4M3 || scales == ActivationScales::kNone) return 0;
    return per_token() ? 1 : ceil_div(dim, kScaleGroup);
  }
  bool operator==(const InputType&) const = default;
};

// A weight matrix [out, in] as a backend keeps it, made by Backend::load_linear; the layout behind `data` is the
// backend's own.
struct LinearWeight {
  Tensor data;    // [out, in] f32, f16, bf16 or e4m3
  Tensor scales;  // e4m3: f32, per channel or per block, laid out as the backend likes
  Tensor bias;    // act [out], or empty
  InputType input;
  // What whoever makes the input multiplies it by, where the checkpoint fixes a scale for it that the weights' scales
  // hold; 1 where other weights' scales do that already (up's, before down). Set by who loads the model.
  float input_factor = 1.0f;
  int64_t out() const { return data.dim(0); }
  int64_t in() const { return data.dim(1); }
};

// Gate and up projections as one matrix of 2 * intermediate rows, interleaved as the backend likes, and the down
// projection.
struct MlpWeights {
  LinearWeight gate_up;  // [2 * intermediate, hidden]
  LinearWeight down;     // [hidden, intermediate]
};

struct ExpertWeights {
  Tensor gate_up, gate_up_scales;  // [experts, 2 * intermediate, hidden]; scales [experts, 2 * intermediate] or
                                   // [experts, rows / 128, ceil(hidden / 128)]
  Tensor down, down_scales;        // [experts, hidden, intermediate]; scales likewise
  Tensor gate_up_bias, down_bias;  // act [experts, rows of the matrix], in the order of its rows; or both empty
  InputType input;                 // of gate and up
  InputType down_input;
};

// What attention of a layer is, apart from its tensors.
struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;      // a token at p sees p - window + 1 .. p; 0: all
  DType kv = DType::kF32;  // of the pages: act or e4m3
  bool operator==(const AttentionShape&) const = default;
};

// One layer's pages. Index functions and the numeric contract of attention over them: ops/kv_layout.h.
struct KvCacheLayer {
  Tensor k;         // [num_blocks, kv_heads, 64, head_dim] act or e4m3
  Tensor v;         // as k
  Tensor k_scales;  // f32 [num_blocks, kv_heads, 64] where e4m3: a scale per token and head
  Tensor v_scales;
};

// Where each token's chosen experts' rows are. Rows of one expert are contiguous; padding between experts is the
// backend's.
struct Routing {
  Tensor experts;  // i32 [num_tokens, top_k], largest probability first; ties: lower index first
  Tensor weights;  // f32 [num_tokens, top_k]
  Tensor rows;     // i32 [num_tokens, top_k]: the row of each pair among the expert rows
  Tensor starts;   // i32 [num_experts]: first row of an expert
  Tensor ends;     // i32 [num_experts]: one past its last row
  // A shared expert's output, which is added to what a token's experts give; or empty.
  Tensor shared;          // act [num_tokens, hidden]
  Tensor shared_weights;  // f32 [num_tokens], or empty: each is 1
};

// A step begins.
struct BeginArgs {
  const Batch* batch;
  std::span<const AttentionShape> attention;  // the different ones that the step has; each was reserved
};

struct EmbedArgs {
  Tensor token_ids;        // i32 [num_tokens], see Batch
  Tensor previous_tokens;  // i32, see Batch
  Tensor table;            // act-convertible [vocab, hidden]
  Tensor out;              // act [num_tokens, hidden]
  Tensor num_rows = {};
};

// residual += delta (rounded to act), then out = residual / rms(residual) * weight. Source: Zhang and Sennrich 2019.
struct NormArgs {
  Tensor residual;  // act [num_tokens, hidden], updated in place where delta is given
  Tensor delta;     // act [num_tokens, hidden], or empty; with `routing` the experts' rows, act [expert_rows, hidden]
  Tensor weight;    // f32 [hidden]
  float epsilon;
  Activation out;  // as the next linear wants it (quantized from the f32 value), or empty
  Tensor out_act;  // act [num_tokens, hidden] as well, or empty
  Tensor num_rows = {};
  // What is added to token t: the sum over k, in the order of experts[t], of weights[t, k] * delta[rows[t, k]], and
  // then of shared_weights[t] * shared[t], rounded to act.
  const Routing* routing = nullptr;
  // i32 [rows of the output]: row i is of token tokens[i], and the residual stays as it is. Empty: of token i.
  Tensor tokens = {};
  Tensor gathered = {};  // act [rows of the output, hidden]: with `tokens`, their new residual; or empty
  // Where a row of the output leaves its sum, at the row's own number; empty: nowhere.
  Tensor sums() const {
    if (tokens) return gathered;
    return delta ? residual : Tensor{};
  }
};

struct LinearArgs {
  Activation in;  // [num_tokens, in]
  const LinearWeight* weight;
  Tensor out;  // act, or f32 for logits: [num_tokens, out]
  Tensor num_rows = {};
};

// out = down(silu(gate(in)) * up(in)); the product is made in f32 and rounded to act, or quantized for `down`; where
// `down` wants a scale per token, rounded to act and then quantized, where it wants none perhaps to float16 first.
struct MlpArgs {
  Activation in;  // [num_tokens, hidden]
  const MlpWeights* weights;
  Tensor out;  // act [num_tokens, hidden]
  Tensor num_rows = {};
};

// RMS norms of q and k, before they are rotated: of each head by itself, or of all heads together; the weight's size
// says which. Sum of squares of a head, in one order: 8 channels after one another by fused multiply-adds; of these
// sums the upper half is added to the lower (the middle one of an odd number stays) until one is left. Of all heads:
// theirs one after another.
struct QkNormArgs {
  Tensor q, k;  // f32 [head_dim], or [heads * head_dim] and [kv_heads * head_dim]; both empty: no norm
  float epsilon = 0;
};

// Rotates q and k (pairs (i, i + rotary / 2) of the first `rotary` channels, as Llama's checkpoints do), writes k and v
// to their slots.
struct RopeAppendKvArgs {
  Tensor qkv;        // act [num_tokens, (heads + 2 * kv_heads) * head_dim]; q is rotated in place
  Tensor positions;  // i32 [num_tokens]
  Tensor slots;      // i64 [num_tokens]
  Tensor cos_sin;    // f32 [max_positions, rotary]: rotary / 2 cosines, then as many sines
  int64_t heads, kv_heads, head_dim;
  KvCacheLayer cache;
  // Checkpoint's static KV scales [kv_heads] f32, or empty: a scale per token and head is computed.
  Tensor static_k_scale, static_v_scale;
  Tensor num_rows = {};
  QkNormArgs norm = {};
};

struct AttentionArgs {
  Tensor qkv;  // act [num_tokens, (heads + 2 * kv_heads) * head_dim], q rotated
  const Batch* batch;
  AttentionShape shape;
  float scale;  // of q.k, usually 1 / sqrt(head_dim)
  KvCacheLayer cache;
  // [num_tokens, heads * head_dim] as the output projection wants it, times `out_factor`; as e4m3 perhaps by way of 16
  // bit.
  Activation out;
  float out_factor = 1.0f;
  Tensor sinks = {};  // f32 [heads], or empty: a logit of each head that has no value, only a part of the softmax's sum
};

// From a router's logits to the experts' weights. Each expert has a score: the softmax over all experts, or its own
// logit's sigmoid. The top_k largest are chosen, of scores with a correction where there is one; the weights are the
// scores without it.
struct Scoring {
  bool renormalize = true;  // the weights of the chosen sum to 1 (sigmoids: over their sum + 1e-20)
  bool sigmoid = false;
  float scale = 1.0f;  // then of the weights
};

// Logits in f32 (in which order they are summed: ops/router_spans.h), then as `scoring` says.
struct RouteArgs {
  Tensor x;     // act [num_tokens, hidden]
  Tensor gate;  // act or f32 [num_experts, hidden]
  Tensor num_rows;
  Scoring scoring;
  Routing out;
  Tensor bias = {};         // f32 [num_experts], added to the logits' sums; or empty
  Tensor correction = {};   // f32 [num_experts], added to sigmoids for the choice alone; or empty
  Tensor shared_gate = {};  // f32 [hidden]: out.shared_weights is the sigmoid of its product with x; or empty
};

// What a gate's and an up projection's value make: silu(gate) * up, or, clamped as gpt-oss has it,
// gate * sigmoid(alpha * gate) * (up + 1) of gate = min(gate, limit) and up within +-limit. Sources: Shazeer 2020;
// OpenAI 2025 (gpt-oss).
struct Swiglu {
  bool clamped = false;
  float limit = 7.0f, alpha = 1.702f;
};

struct ExpertsArgs {
  Tensor x;  // act [num_tokens, hidden]; quantized here where the weights want it
  Tensor num_rows;
  const Routing* routing;
  const ExpertWeights* weights;
  Tensor out;  // act [expert_rows, hidden]
  Swiglu swiglu = {};
};

// A model may be spread over several backends, its ranks (comm/): each has some of the heads, some columns of the
// feed-forward parts and some rows of the head, and makes a part of what those give. These two make it whole, on every
// rank the same. They are asked only of a backend of several ranks.

// out = the sum over the ranks, in their order, of what each would add to its residual stream: of `delta`, or with
// `routing` of the sum over a token's experts' rows, both as NormArgs has them.
struct AllReduceArgs {
  Tensor delta;
  const Routing* routing;
  Tensor out;  // act [num_tokens, hidden]; may be `delta` where there is no routing
  Tensor num_rows = {};
};

// The ranks' columns side by side, in the order of ranks.
struct AllGatherArgs {
  Tensor part;  // f32 [num_rows, columns of a rank]
  Tensor out;   // f32 [num_rows, columns]
  Tensor num_rows = {};
};

// Sampling of one row of logits. Order: allowed mask, penalties and bias, temperature, top-k, top-p, min-p, draw.
// The draw is Gumbel-max over what is left, with noise from (seed, position, token id) alone: ops/sampling.h.
struct SamplingRow {
  float temperature = 1.0f;  // 0: greedy, ties to the lower token id
  float top_p = 1.0f;
  float min_p = 0.0f;
  float frequency_penalty = 0.0f, presence_penalty = 0.0f, repetition_penalty = 1.0f;
  int32_t top_k = 0;          // 0: all
  int32_t num_logprobs = -1;  // -1: none; 0: the sampled token's; n: and the n most likely's
  int32_t target = -1;        // >= 0: nothing is drawn, the result is this token (log-probabilities of a prompt)
  int32_t position = 0;
  uint64_t seed = 0;
};

struct SampleArgs {
  Tensor logits;  // f32 [num_rows, vocab]; may be overwritten
  Tensor sizes;
  Tensor rows;  // u8 [num_rows, sizeof(SamplingRow)]: an array of SamplingRow
  // Edits of single tokens' logits, a row's entries at [edit_starts[r], edit_starts[r + 1]).
  Tensor edit_starts;  // i32 [num_rows + 1]
  Tensor edit_tokens;  // i32
  Tensor edit_counts;  // i32: times generated; -1: only in the prompt (counts for the repetition penalty)
  Tensor edit_biases;  // f32
  Tensor allowed;      // i32 [num_rows, ceil(vocab / 32)] bits, or empty: all; a row's bit set: the token may be drawn
  Tensor has_mask;     // u8 [num_rows]: whether the row of `allowed` counts
  // Results. Log-probabilities are of the unedited logits at temperature 1; a row with a NaN among its logits gives
  // token -1, as does one with +infinity, or where nothing may be drawn. A row that wants no log-probabilities gets
  // logprob 0 and rank 0; unused top entries are -1 and -infinity.
  Tensor tokens;        // i32 [num_rows]
  Tensor logprobs;      // f32 [num_rows]
  Tensor ranks;         // i32 [num_rows]: 1 for the most likely token
  Tensor top_tokens;    // i32 [num_rows, max_logprobs], most likely first, ties to the lower id
  Tensor top_logprobs;  // f32 [num_rows, max_logprobs]
};

class Ops {
 public:
  virtual ~Ops() = default;
  // Before a step's first op.
  virtual void begin(const BeginArgs&) = 0;
  virtual void embed(const EmbedArgs&) = 0;
  virtual void norm(const NormArgs&) = 0;
  virtual void linear(const LinearArgs&) = 0;
  virtual void mlp(const MlpArgs&) = 0;
  virtual void rope_append_kv(const RopeAppendKvArgs&) = 0;
  virtual void attention(const AttentionArgs&) = 0;
  virtual void route(const RouteArgs&) = 0;
  virtual void experts(const ExpertsArgs&) = 0;
  virtual void all_reduce(const AllReduceArgs&) { HEARTH_CHECK(false); }
  virtual void all_gather(const AllGatherArgs&) { HEARTH_CHECK(false); }
  virtual void sample(const SampleArgs&) = 0;
};

}  // namespace hearth
