// Ops: all that a model may ask of a backend, cut where a GPU fuses. The CPU backend (cpu/) defines what each op means.
// A CUDA kernel is right when it agrees with the CPU's op within the bound that its test states.
//
// Types. An activation ("act" below) is f32, f16 or bf16, one type for a whole model. Arithmetic is f32. A value is
// rounded where it is stored, nowhere else. A row's result depends on that row and its sequence alone, to the bit: not
// on the other rows of the step, not on their number, and not on how a prompt was cut into chunks.
//
// FP8 (e4m3). One recipe for weights, activations and KV: scale = max|x| / most, inverse = most / max|x|, and q is x *
// inverse rounded to nearest even, saturating. Both divisions are correctly rounded f32; both give 1 where max|x| is 0,
// or so small that inverse overflows. `most` is 448 for weights and KV. An activation has one of three forms:
//   per token  (weights: per channel)         most = 112, so that sums of products fit float16. It costs no precision.
//   per 128 channels  (weights: per 128x128)  most = 448. The last group may be short. One group alone is "per token".
//   static  (the checkpoint fixes one scale)  No scale is stored: q = x, saturating at 112. x comes divided by the
//                                             fixed scale: the weights that make x hold its inverse, and where
//                                             attention makes x, AttentionArgs::out_factor does. The weights that read
//                                             x hold the scale.
// Products. The sum over each 128 of K is multiplied by activation scale and weight scale (1 where there is none) and
// added to the f32 total, in order of K; the last may be short. Where the scales are the same for all of K they may
// multiply the total instead. A GPU does so. It sums 1,024 of K at a time in float16, with weights in units of its own.
//
// Sizes. The host knows how many rows a step has: the first dimension of its tensors. The CPU uses that. A captured
// graph is launched with its bucket's number and reads the true one on the device: `num_rows`, i32 [1], a view into
// Batch::sizes, or empty where all rows count. Rows beyond it may or may not be written; KV slots beyond it are not.
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
#include "tensor/shard.h"
#include "tensor/tensor.h"

namespace hearth {

// The input of a linear layer, in the form its weight wants: 16/32-bit values, or e4m3 with scales. A model gets the
// memory from Backend::input_of and never asks for the form.
struct Activation {
  Tensor data;    // [num_tokens, dim] act or e4m3
  Tensor scales;  // of e4m3 data: f32 [1, max_tokens] or [ceil(dim / 128), max_tokens], so that tokens are contiguous.
                  // Empty: each scale is 1
  // The first `count` rows.
  Activation rows(int64_t count) const { return {data.rows(0, count), scales}; }
};

enum class ActivationScales : uint8_t { kPerGroup, kPerToken, kNone };

// The form of Activation that a linear layer wants.
struct InputType {
  DType dtype = DType::kF32;                              // e4m3 where products run in FP8, else act
  ActivationScales scales = ActivationScales::kPerGroup;  // of e4m3
  bool has_scales() const { return dtype == DType::kE4M3 && scales != ActivationScales::kNone; }
  bool per_token() const { return dtype == DType::kE4M3 && scales == ActivationScales::kPerToken; }
  // How many scales each token of `dim` channels has.
  int64_t scale_groups(int64_t dim) const {
    if (!has_scales()) return 0;
    return per_token() ? 1 : ceil_div(dim, kScaleGroup);
  }
  bool operator==(const InputType&) const = default;
};

// A weight matrix [out, in] as a backend keeps it. Backend::load_linear makes it. The layout behind `data` is the
// backend's own.
struct LinearWeight {
  Tensor data;    // [out, in] f32, f16, bf16 or e4m3
  Tensor scales;  // e4m3: f32, per channel or per block, laid out as the backend likes
  Tensor bias;    // act [out], or empty
  InputType input;
  // Static activation scales: the producer of the input multiplies by this before it rounds to e4m3. 1 when there is no
  // static scale, or when the producer's own weights include it already (`up`, before `down`). WeightLoader sets it.
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

// A layer's attention, apart from its tensors.
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

// The experts that each token chose, and where their rows lie. Rows of one expert are contiguous. Padding between
// experts is the backend's. With --expert-parallel a rank has some of the experts (`here`). It computes their rows
// alone; the others' rows are not written, and a token's sum leaves them out.
struct Routing {
  Tensor experts;  // i32 [num_tokens, top_k], largest probability first; ties: lower index first
  Tensor weights;  // f32 [num_tokens, top_k]
  Tensor rows;     // i32 [num_tokens, top_k]: the row of each pair among the expert rows
  Tensor starts;   // i32 [num_experts]: first row of an expert
  Tensor ends;     // i32 [num_experts]: one past its last row
  // A shared expert's output, added to the output of the token's chosen experts; or empty.
  Tensor shared;          // act [num_tokens, hidden]
  Tensor shared_weights;  // f32 [num_tokens], or empty: each is 1
  Range here = {};        // the experts that this rank has; empty: all
  bool is_here(int32_t expert) const { return here.size() == 0 || (here.begin <= expert && expert < here.end); }
  // Of starts or ends, those of the experts that this rank has.
  Tensor of_here(const Tensor& each) const { return here.size() == 0 ? each : each.rows(here.begin, here.size()); }
};

// A step begins.
struct BeginArgs {
  const Batch* batch;
  std::span<const AttentionShape> attention;  // each different shape of the model once; all are reserved
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
  // With `routing`, token t gets: the sum over k, in the order of experts[t], of weights[t, k] * delta[rows[t, k]],
  // then + shared_weights[t] * shared[t]. The total is rounded to act.
  const Routing* routing = nullptr;
  // i32 [rows of the output]: output row i is token tokens[i], and `residual` is not written. Empty: row i is token i.
  Tensor tokens = {};
  Tensor gathered = {};  // act [rows of the output, hidden]: with `tokens`, the new residual of row i; or empty
  // Where the new residual of output row i is written, at row i. Empty: nowhere.
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

// out = down(h), h = silu(gate(in)) * up(in). h is computed in f32 and rounded to act. Where `down` reads e4m3 with
// scales, it is quantized then. With a static scale it may be rounded to float16 in place of act.
struct MlpArgs {
  Activation in;  // [num_tokens, hidden]
  const MlpWeights* weights;
  Tensor out;  // act [num_tokens, hidden]
  Tensor num_rows = {};
};

// RMS norms of q and k, before they are rotated: of each head by itself, or of all heads together. The weight's size
// says which. A head's squares are summed in one order. Every 8 channels are one sum, by fused multiply-adds in order.
// Then the upper half of these sums is added to the lower half, until one is left; with an odd number of sums the
// middle one waits for the next round. Over all heads, the heads' sums are added in order.
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
  // [num_tokens, heads * head_dim] times `out_factor`, in the form that the output projection reads. On the way to e4m3
  // it may be rounded to 16 bit first.
  Activation out;
  float out_factor = 1.0f;
  Tensor sinks = {};  // f32 [heads], or empty: one more logit a head. It counts in the softmax's sum and has no value
};

// From a router's logits to the experts' weights. An expert's score is its softmax over all experts, or the sigmoid of
// its own logit. The top_k largest scores are chosen; a correction, if there is one, is added for this choice alone.
// The weights are the scores without the correction.
struct Scoring {
  bool renormalize = true;  // divide the chosen weights by their sum (sigmoids: by their sum + 1e-20)
  bool sigmoid = false;
  float scale = 1.0f;  // multiplies the weights, last
};

// The router: logits in f32 (ops/router_spans.h has the order of their sums), then `scoring`.
struct RouteArgs {
  Tensor x;     // act [num_tokens, hidden]
  Tensor gate;  // act or f32 [num_experts, hidden]
  Tensor num_rows;
  Scoring scoring;
  Routing out;
  Tensor bias = {};         // f32 [num_experts], added to the logits; or empty
  Tensor correction = {};   // f32 [num_experts], added to the sigmoids for the choice alone; or empty
  Tensor shared_gate = {};  // f32 [hidden]: out.shared_weights = sigmoid(x . shared_gate); or empty
};

// SwiGLU: silu(gate) * up. Clamped, as gpt-oss has it: g * sigmoid(alpha * g) * (u + 1), with g = min(gate, limit) and
// u = up clamped to +-limit.
// Sources: Shazeer 2020; OpenAI 2025 (gpt-oss).
struct Swiglu {
  bool clamped = false;
  float limit = 7.0f, alpha = 1.702f;
};

struct ExpertsArgs {
  Tensor x;  // act [num_tokens, hidden]; quantized here where the weights want it
  Tensor num_rows;
  const Routing* routing;
  const ExpertWeights* weights;  // of the experts that are here
  Tensor out;                    // act [expert_rows, hidden]
  Swiglu swiglu = {};
};

// Tensor parallelism. A model may be spread over several backends, its ranks (comm/). Each rank has some of the
// attention heads, some columns of the feed-forward matrices and some rows of the output head, and computes a part of
// each result. These two ops combine the parts, and every rank gets the same bits. One rank alone never calls them.

// out = the sum of the ranks' deltas, in the order of ranks. A rank's delta is `delta`, or with `routing` the weighted
// sum over the token's experts' rows, as NormArgs defines both.
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
  int32_t num_logprobs = -1;  // -1: none; 0: the sampled token's; n: also those of the n most likely
  int32_t target = -1;        // >= 0: the result is this token, nothing is drawn (log-probabilities of a prompt)
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
  Tensor edit_counts;  // i32: times generated; -1: only in the prompt, where the repetition penalty applies alone
  Tensor edit_biases;  // f32
  Tensor allowed;      // i32 [num_rows, ceil(vocab / 32)] bits, or empty: all; a row's bit set: the token may be drawn
  Tensor has_mask;     // u8 [num_rows]: whether the row of `allowed` counts
  // Results. Log-probabilities are of the unedited logits at temperature 1. The token is -1 where a logit is NaN or
  // +infinity, and where no token may be drawn. A row that wants no log-probabilities gets logprob 0 and rank 0. Unused
  // top entries are -1 and -infinity.
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
  // Both, the sum being the norm's delta: a backend may make one of them, and then the sum itself is perhaps not
  // stored.
  virtual void all_reduce_norm(const AllReduceArgs& sum, const NormArgs& args) {
    all_reduce(sum);
    norm(args);
  }
  virtual void sample(const SampleArgs&) = 0;
};

}  // namespace hearth
