// From the ops' arguments to kernels.
#include "cuda/cuda_ops.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cuda/check.h"
#include "cuda/grouped_gemm.h"
#include "cuda/kernels/grouped_gemm_schedule.h"
#include "cuda/limits.h"
#include "cuda/small_kernels.h"
#include "cuda/weight_tiles.h"

namespace hearth::cuda {
namespace {

// Scratch memory, by what it is for.
constexpr std::string_view kMlpProduct = "MLP intermediate", kExpertInput = "expert input",
                           kExpertProduct = "expert intermediate", kUnquantized = "attention's output",
                           kChosen = "experts chosen";

// A shape or type that no kernel takes should have been refused when the model was loaded.
void check_ok(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::abort();
}

WeightScales scales_kind(const Tensor& scales, int rank_of_channels) {
  if (!scales) return WeightScales::kNone;
  return scales.shape.rank() == rank_of_channels ? WeightScales::kChannel : WeightScales::kBlock;
}

void set_in(GroupedGemm& product, const Activation& in) {
  product.dtype = in.data.dtype;
  product.x = in.data.data;
  product.max_rows = in.data.dim(0);
  product.x_row_scales = in.data.dtype == DType::kE4M3 && (!in.scales || in.scales.dim(0) == 1);
  if (in.scales) {
    product.x_scales = in.scales.as<float>();
    product.x_scale_stride = in.scales.dim(1);
  }
}

void set_out(GroupedGemm& product, const Activation& out) {
  product.out_dtype = out.data.dtype;
  product.y = out.data.data;
}

double bytes(const Tensor& t) { return t ? static_cast<double>(t.bytes()) : 0; }

OpTime moving(const char* name, double bytes) { return {.name = name, .bytes = bytes}; }

// `weights`: how many of the groups' matrices are read.
OpTime multiplying(const GroupedGemm& p, int64_t rows, double weights) {
  const auto m = static_cast<double>(rows), n = static_cast<double>(p.n), k = static_cast<double>(p.k);
  const auto size = static_cast<double>(dtype_size(p.dtype)), out_size = static_cast<double>(dtype_size(p.out_dtype));
  const double out_columns = is_swiglu(p.epilogue) ? n / 2 : n;
  return {.name = cat(p.groups > 1 ? "experts " : "linear ", p.n, "x", p.k),
          .bytes = weights * n * k * size + m * k * size + m * out_columns * out_size,
          .flops = 2 * m * n * k,
          .type = p.dtype};
}

// What dispatch to experts fetches for the product behind it: the first piece of each tile of weights, 16 KB of every
// 128 rows, so that all clusters gain the same. Where nearly every expert is wanted, and the step waits for memory.
L2Prefetch first_of_each_tile(const Tensor& weights, int64_t tokens) {
  constexpr int64_t kLeast = 32, kMost = 256;
  if (tokens < kLeast || tokens > kMost) return {};
  const int64_t row_bytes = weights.dim(2) * static_cast<int64_t>(dtype_size(weights.dtype));
  return {.from = static_cast<const char*>(weights.data),
          .bytes = kWeightTileRows * kWeightTileBytes,
          .count = static_cast<int32_t>(weights.dim(0) * ceil_div(weights.dim(1), int64_t{kWeightTileRows})),
          .stride = weight_bytes(kWeightTileRows, row_bytes)};
}

// Of a plan its head stands for all.
Region plan_of(const FireAttention& attention) {
  return Tensor{attention.built_plan().header, DType::kU8, {sizeof(*attention.built_plan().header)}};
}

}  // namespace

template <typename Launches>
void CudaOps::keep_order(const Launches& launches) {
  if constexpr (kChecksLaunchOrder) check_ok(order_.issue(launches()));
}

CudaOps::~CudaOps() {
  for (void* p : memory_) cudaFree(p);
}

Status CudaOps::init(cudaStream_t stream, int multiprocessors, const Exchange* exchange) {
  stream_ = stream;
  multiprocessors_ = multiprocessors;
  exchange_ = exchange;
  std::vector<int32_t> counting(static_cast<size_t>(kMostRows) + 1);
  std::iota(counting.begin(), counting.end(), 0);
  const size_t bytes = counting.size() * sizeof(int32_t);
  void* memory = nullptr;
  HEARTH_TRY(cuda_status(cudaMalloc(&memory, bytes), "memory for the ops' constants"));
  memory_.push_back(memory);
  counting_ = static_cast<int32_t*>(memory);
  HEARTH_TRY(cuda_status(cudaMemcpy(memory, counting.data(), bytes, cudaMemcpyHostToDevice), "the ops' constants"));
  HEARTH_TRY(cuda_status(cudaMalloc(&memory, sizeof(uint32_t)), "memory for a counter"));
  memory_.push_back(memory);
  route_finished_ = static_cast<uint32_t*>(memory);
  return cuda_status(cudaMemset(memory, 0, sizeof(uint32_t)), "clearing a counter");
}

void CudaOps::embed(const EmbedArgs& args) {
  keep_order([&] { return launches_of(args); });
  timed(moving("embed", 2 * bytes(args.out)), [&] { cuda::embed(args, stream_); });
}
void CudaOps::norm(const NormArgs& args) {
  keep_order([&] { return launches_of(args); });
  const double row = bytes(args.residual.rows(0, 1));
  double each = row;  // a row of the output
  if (args.delta) each += row * static_cast<double>(args.routing ? args.routing->rows.dim(1) : 1);
  if (args.delta && args.routing && args.routing->shared) each += row;
  if (args.sums()) each += row;
  const auto rows = static_cast<double>(args.tokens ? args.tokens.dim(0) : args.residual.dim(0));
  timed(moving("norm", rows * each + bytes(args.out.data) + bytes(args.out_act)), [&] { cuda::norm(args, stream_); });
}
void CudaOps::rope_append_kv(const RopeAppendKvArgs& args) {
  keep_order([&] { return launches_of(args); });
  timed(moving("rope_append_kv", 2 * bytes(args.qkv)), [&] { cuda::rope_append_kv(args, stream_); });
}
void CudaOps::route(const RouteArgs& args) {
  keep_order([&] { return launches_of(args); });
  void* bits = scratch_.get(kChosen, {DType::kU8}, 1).data.data;
  timed(moving("route", bytes(args.x) + bytes(args.gate)), [&] { cuda::route(args, route_finished_, bits, stream_); });
}
void CudaOps::sample(const SampleArgs& args) {
  keep_order([&] { return launches_of(args); });
  timed(moving("sample", bytes(args.logits)), [&] { cuda::sample(args, stream_); });
}

void CudaOps::quantize(const Tensor& in, const Activation& out, const Tensor& num_rows, int64_t rows_each) {
  timed(moving("quantize", bytes(in) * 3 / 2), [&] { cuda::quantize(in, out, num_rows, rows_each, stream_); });
}

void CudaOps::product(const LinearWeight& weight, Epilogue epilogue, const Activation& in, const Activation& out,
                      const Tensor& num_rows) {
  const int64_t rows = in.data.dim(0);
  if (rows == 0) return;
  HEARTH_CHECK(rows <= kMostRows);
  GroupedGemm p;
  set_in(p, in);
  set_out(p, out);
  p.epilogue = epilogue;
  p.weight_scales = scales_kind(weight.scales, 1);
  p.n = weight.out();
  p.k = weight.in();
  p.max_group = rows;
  p.w = weight.data.data;
  p.w_scales = static_cast<const float*>(weight.scales.data);
  p.bias = weight.bias.data;
  p.starts = counting_;
  p.ends = num_rows ? num_rows.as<int32_t>() : counting_ + rows;
  timed(multiplying(p, rows, 1), [&] { check_ok(grouped_gemm(p, stream_)); });
}

void CudaOps::linear(const LinearArgs& args) {
  keep_order([&] { return launches_of(args); });
  product(*args.weight, Epilogue::kStore, args.in, {args.out, {}}, args.num_rows);
}

Status CudaOps::reserve_mlp(Backend& backend, const MlpWeights& w, int64_t max_rows) {
  return scratch_.reserve_product(backend, kMlpProduct, w.down.input, max_rows, w.down.in());
}

void CudaOps::mlp(const MlpArgs& args) {
  const LinearWeight &gate_up = args.weights->gate_up, &down = args.weights->down;
  const Scratch::Product between = scratch_.product(kMlpProduct, down.input, down.in()).rows(args.in.data.dim(0));
  keep_order([&] { return launches_of(args, between); });
  product(gate_up, Epilogue::kSwiglu, args.in, between.act ? Activation{between.act, {}} : between.out, args.num_rows);
  if (between.act) quantize(between.act, between.out, args.num_rows, 1);
  product(down, Epilogue::kStore, between.out, {args.out, {}}, args.num_rows);
}

Status CudaOps::reserve_experts(Backend& backend, const ExpertWeights& w, int64_t max_rows, int64_t top_k) {
  const int64_t rows = backend.expert_rows(max_rows, top_k, w.down.dim(0));
  HEARTH_TRY(scratch_.reserve(backend, kChosen, {DType::kU8}, route_bits_bytes(max_rows), 1));
  HEARTH_TRY(scratch_.reserve(backend, kExpertInput, w.input, rows, w.gate_up.dim(2)));
  return scratch_.reserve_product(backend, kExpertProduct, w.down_input, rows, w.down.dim(2));
}

void CudaOps::experts(const ExpertsArgs& args) {
  const int64_t tokens = args.x.dim(0);
  if (tokens == 0) return;
  const ExpertWeights& weights = *args.weights;
  const int64_t pairs = tokens * args.routing->rows.dim(1);
  const Activation gathered = scratch_.get(kExpertInput, weights.input, weights.gate_up.dim(2));
  const Scratch::Product between = scratch_.product(kExpertProduct, weights.down_input, weights.down.dim(2));
  HEARTH_CHECK(pairs <= gathered.data.dim(0) && pairs <= between.out.data.dim(0));
  keep_order([&] { return launches_of(args, gathered, between); });
  timed(moving("dispatch", bytes(args.x) + bytes(gathered.data.rows(0, pairs))), [&] {
    dispatch(args.x, *args.routing, gathered, args.num_rows, stream_, first_of_each_tile(weights.gate_up, tokens));
  });
  const auto product = [&](const Tensor& weight, const Tensor& scales, const Tensor& bias, Epilogue epilogue,
                           const Activation& in, const Activation& out) {
    GroupedGemm p;
    set_in(p, in);
    set_out(p, out);
    p.epilogue = epilogue;
    p.weight_scales = scales_kind(scales, 2);
    p.n = weight.dim(1);
    p.k = weight.dim(2);
    p.max_rows = std::min(p.max_rows, pairs);
    p.max_group = tokens;
    p.swiglu_limit = args.swiglu.limit, p.swiglu_alpha = args.swiglu.alpha;
    const Tensor starts = args.routing->of_here(args.routing->starts), ends = args.routing->of_here(args.routing->ends);
    const int64_t experts = weight.dim(0);
    // With even routing: the chance that no token chose an expert.
    const double unused = std::pow(1 - static_cast<double>(pairs / tokens) / static_cast<double>(experts), tokens);
    for (int64_t first = 0; first < experts; first += kMaxGroups) {  // of one launch
      const int64_t count = std::min<int64_t>(experts - first, kMaxGroups);
      p.groups = count;
      p.w = static_cast<const char*>(weight.data) + first * weight_bytes(p.n, p.k * dtype_size(weight.dtype));
      p.w_scales = scales ? scales.rows(first, count).as<float>() : nullptr;
      p.bias = bias ? bias.rows(first, count).data : nullptr;
      p.starts = starts.as<int32_t>() + first;
      p.ends = ends.as<int32_t>() + first;
      timed(multiplying(p, pairs * count / experts, static_cast<double>(count) * (1 - unused)),
            [&] { check_ok(grouped_gemm(p, stream_)); });
    }
  };
  product(weights.gate_up, weights.gate_up_scales, weights.gate_up_bias,
          args.swiglu.clamped ? Epilogue::kClampedSwiglu : Epilogue::kSwiglu, gathered,
          between.act ? Activation{between.act, {}} : between.out);
  if (between.act) quantize(between.act.rows(0, pairs), between.out, args.num_rows, pairs / tokens);
  product(weights.down, weights.down_scales, weights.down_bias, Epilogue::kStore, between.out, {args.out, {}});
}

void CudaOps::all_reduce(const AllReduceArgs& args) {
  HEARTH_CHECK(exchange_ != nullptr);
  keep_order([&] { return launches_of(args); });
  const double each = args.routing ? static_cast<double>(args.routing->rows.dim(1)) : 1;
  timed(moving("all_reduce", (each + 1) * bytes(args.out)), [&] { exchange_->all_reduce(args, stream_); });
}
void CudaOps::all_reduce_norm(const AllReduceArgs& sum, const NormArgs& args) {
  HEARTH_CHECK(exchange_ != nullptr);
  if (!exchange_->takes_norm(sum, args)) return Ops::all_reduce_norm(sum, args);
  keep_order([&] { return launches_of(sum, args); });
  const double each = sum.routing ? static_cast<double>(sum.routing->rows.dim(1)) : 1;
  timed(moving("all_reduce, norm", (each + 2) * bytes(sum.out) + bytes(args.out.data) + bytes(args.out_act)),
        [&] { exchange_->all_reduce_norm(sum, args, stream_); });
}
void CudaOps::all_gather(const AllGatherArgs& args) {
  HEARTH_CHECK(exchange_ != nullptr);
  keep_order([&] { return launches_of(args); });
  timed(moving("all_gather", bytes(args.part) + bytes(args.out)), [&] { exchange_->all_gather(args, stream_); });
}

Status CudaOps::reserve_attention(Backend& backend, const AttentionShape& shape, const LinearWeight& out,
                                  const StepLimits& limits) {
  const int64_t width = shape.heads * shape.head_dim;
  if (out.input.scale_groups(width) > 0) {
    HEARTH_TRY(scratch_.reserve(backend, kUnquantized, {backend.act()}, limits.max_tokens, width));
  }
  const FireAttentionShape step = attention_shape(backend.act(), shape, limits);
  const auto at = std::ranges::find(attentions_, shape, &Attention::shape);
  if (at != attentions_.end() && at->step.holds(step)) return {};
  HEARTH_TRY(FireAttention::check(step));
  FireAttention::Memory memory;
  HEARTH_ASSIGN(const Tensor workspace,
                backend.allocate("attention's plan", DType::kU8, {FireAttention::workspace_bytes(step)}));
  backend.zero(workspace);
  memory.workspace = workspace.data;
  if (step.widens()) {
    // Layers run one after another, whatever their windows: one set of pages serves all that have the same.
    const int64_t rows = step.max_prompt_blocks * shape.kv_heads * kBlockSize;
    HEARTH_ASSIGN(const Activation k,
                  scratch_.reserve(backend, "keys of prompts", {backend.act()}, rows, shape.head_dim));
    HEARTH_ASSIGN(const Activation v,
                  scratch_.reserve(backend, "values of prompts", {backend.act()}, rows, shape.head_dim));
    memory.wide_k = k.data.data, memory.wide_v = v.data.data;
    max_prompt_blocks_ =
        max_prompt_blocks_ == 0 ? step.max_prompt_blocks : std::min(max_prompt_blocks_, step.max_prompt_blocks);
  }
  Attention made{shape, step, std::make_unique<FireAttention>(step, memory, multiprocessors_)};
  if (at != attentions_.end()) {
    *at = std::move(made);
  } else {
    attentions_.push_back(std::move(made));
  }
  return {};
}

CudaOps::Attention& CudaOps::attention_of(const AttentionShape& shape) {
  const auto at = std::ranges::find(attentions_, shape, &Attention::shape);
  HEARTH_CHECK(at != attentions_.end());
  return *at;
}

void CudaOps::begin(const BeginArgs& args) {
  for (Attention& a : attentions_) a.planned = a.ran = false;
  order_.begin_step();
  if (args.batch->num_tokens == 0 || args.attention.empty()) return;
  std::vector<const FireAttention*> kernels;
  for (const AttentionShape& shape : args.attention) {
    Attention& attention = attention_of(shape);
    attention.planned = true;
    kernels.push_back(attention.kernels.get());
  }
  keep_order([&] {
    std::vector<Region> plans;
    for (const FireAttention* each : kernels) plans.push_back(plan_of(*each));
    return plan_launches(plans);
  });
  timed({"attention plan"}, [&] { FireAttention::plan(kernels, *args.batch, stream_); });
}

void CudaOps::attention(const AttentionArgs& args) {
  if (args.qkv.dim(0) == 0) return;
  Attention& attention = attention_of(args.shape);
  HEARTH_CHECK(attention.planned && args.qkv.dim(0) <= attention.step.max_tokens);
  // What it reads is in the lengths of the contexts, which the device knows.
  const StepKinds kinds{.prompt = args.batch->may_have_prompt};
  const bool planned_before = std::exchange(attention.ran, true);
  const auto run = [&](const AttentionArgs& a) {
    timed(moving("attention", bytes(a.qkv) + bytes(a.out.data)),
          [&] { check_ok(attention.kernels->run(a, stream_, kinds, planned_before)); });
  };
  AttentionArgs inner = args;
  if (args.out.scales) {
    inner.out = scratch_.get(kUnquantized, {args.qkv.dtype}, args.out.data.dim(1)).rows(args.qkv.dim(0));
  }
  keep_order([&] {
    return launches_of(args, {.plan = plan_of(*attention.kernels),
                              .prompt = kinds.prompt,
                              .widens = attention.step.widens(),
                              .planned_before = planned_before,
                              .unquantized = args.out.scales ? inner.out.data : Tensor{}});
  });
  run(inner);
  if (!args.out.scales) return;
  quantize(inner.out.data, args.out, args.batch->true_tokens(), 1);
}

}  // namespace hearth::cuda
