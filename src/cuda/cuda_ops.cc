// From the ops' arguments to kernels.
#include "cuda/cuda_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "cuda/check.h"
#include "cuda/grouped_gemm.h"
#include "cuda/limits.h"
#include "cuda/small_kernels.h"
#include "cuda/weight_tiles.h"

namespace hearth::cuda {
namespace {

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
  if (out.scales) {
    product.y_scales = out.scales.as<float>();
    product.y_scale_stride = out.scales.dim(1);
  }
}

double bytes(const Tensor& t) { return t ? static_cast<double>(t.bytes()) : 0; }

OpTime moving(const char* name, double bytes) { return {.name = name, .bytes = bytes}; }

// `weights`: how many of the groups' matrices are read.
OpTime multiplying(const GroupedGemm& p, int64_t rows, double weights) {
  const auto m = static_cast<double>(rows), n = static_cast<double>(p.n), k = static_cast<double>(p.k);
  const auto size = static_cast<double>(dtype_size(p.dtype)), out_size = static_cast<double>(dtype_size(p.out_dtype));
  const double out_columns = p.epilogue == Epilogue::kSwiglu ? n / 2 : n;
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

}  // namespace

CudaOps::~CudaOps() {
  for (void* p : memory_) cudaFree(p);
}

Status CudaOps::init(cudaStream_t stream, int multiprocessors) {
  stream_ = stream;
  multiprocessors_ = multiprocessors;
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

void* CudaOps::allocate(size_t bytes, std::string_view what) {
  void* memory = nullptr;
  check_ok(cuda_status(cudaMalloc(&memory, bytes), what));
  memory_.push_back(memory);
  return memory;
}

void CudaOps::embed(const EmbedArgs& args) {
  planned_ = nullptr;  // a step begins
  timed(moving("embed", 2 * bytes(args.out)), [&] { cuda::embed(args, stream_); });
}
void CudaOps::norm(const NormArgs& args) {
  const double row = bytes(args.residual.rows(0, 1));
  double each = row;  // a row of the output
  if (args.delta) each += row * static_cast<double>(args.routing ? args.routing->rows.dim(1) : 1);
  if (args.sums()) each += row;
  const auto rows = static_cast<double>(args.tokens ? args.tokens.dim(0) : args.residual.dim(0));
  timed(moving("norm", rows * each + bytes(args.out.data) + bytes(args.out_act)), [&] { cuda::norm(args, stream_); });
}
void CudaOps::rope_append_kv(const RopeAppendKvArgs& args) {
  timed(moving("rope_append_kv", 2 * bytes(args.qkv)), [&] { cuda::rope_append_kv(args, stream_); });
}
void CudaOps::route(const RouteArgs& args) {
  timed(moving("route", bytes(args.x) + bytes(args.gate)), [&] { cuda::route(args, route_finished_, stream_); });
}
void CudaOps::sample(const SampleArgs& args) {
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
  product(*args.weight, Epilogue::kStore, args.in, {args.out, {}}, args.num_rows);
}

void CudaOps::mlp(const MlpArgs& args) {
  if (args.intermediate_act) {
    product(args.weights->gate_up, Epilogue::kSwiglu, args.in, {args.intermediate_act, {}}, args.num_rows);
    quantize(args.intermediate_act, args.intermediate, args.num_rows, 1);
  } else {
    product(args.weights->gate_up, Epilogue::kSwiglu, args.in, args.intermediate, args.num_rows);
  }
  product(args.weights->down, Epilogue::kStore, args.intermediate, {args.out, {}}, args.num_rows);
}

void CudaOps::experts(const ExpertsArgs& args) {
  const int64_t tokens = args.x.dim(0);
  if (tokens == 0) return;
  const ExpertWeights& weights = *args.weights;
  const int64_t pairs = tokens * args.routing->rows.dim(1);
  timed(moving("dispatch", bytes(args.x) + bytes(args.gathered.data.rows(0, pairs))), [&] {
    dispatch(args.x, *args.routing, args.gathered, args.num_rows, stream_, first_of_each_tile(weights.gate_up, tokens));
  });
  const auto product = [&](const Tensor& weight, const Tensor& scales, Epilogue epilogue, const Activation& in,
                           const Activation& out) {
    GroupedGemm p;
    set_in(p, in);
    set_out(p, out);
    p.epilogue = epilogue;
    p.weight_scales = scales_kind(scales, 2);
    p.groups = weight.dim(0);
    p.n = weight.dim(1);
    p.k = weight.dim(2);
    p.max_rows = std::min(p.max_rows, pairs);
    p.max_group = tokens;
    p.w = weight.data;
    p.w_scales = static_cast<const float*>(scales.data);
    p.starts = args.routing->starts.as<int32_t>();
    p.ends = args.routing->ends.as<int32_t>();
    // With even routing: the chance that no token chose an expert.
    const double unused = std::pow(1 - static_cast<double>(pairs / tokens) / static_cast<double>(p.groups), tokens);
    timed(multiplying(p, pairs, static_cast<double>(p.groups) * (1 - unused)),
          [&] { check_ok(grouped_gemm(p, stream_)); });
  };
  if (args.intermediate_act) {
    product(weights.gate_up, weights.gate_up_scales, Epilogue::kSwiglu, args.gathered, {args.intermediate_act, {}});
    quantize(args.intermediate_act.rows(0, pairs), args.intermediate, args.num_rows, pairs / tokens);
  } else {
    product(weights.gate_up, weights.gate_up_scales, Epilogue::kSwiglu, args.gathered, args.intermediate);
  }
  product(weights.down, weights.down_scales, Epilogue::kStore, args.intermediate, {args.out, {}});
}

CudaOps::Attention& CudaOps::attention_for(const AttentionArgs& args) {
  const int64_t tokens = args.qkv.dim(0), sequences = args.batch->num_sequences;
  const int64_t max_blocks = args.batch->block_tables.dim(1), prompt_blocks = args.wide_k ? args.wide_k.dim(0) : 0;
  for (Attention& a : attentions_) {
    const FireAttentionShape& s = a.shape;
    if (s.act == args.qkv.dtype && s.kv == args.cache.k.dtype && s.heads == args.heads && s.kv_heads == args.kv_heads &&
        s.head_dim == args.head_dim && s.window == args.window && tokens <= s.max_tokens &&
        sequences <= s.max_sequences && max_blocks <= s.max_blocks && prompt_blocks == s.max_prompt_blocks) {
      return a;
    }
  }
  FireAttentionShape shape = attention_shape(args.qkv.dtype,
                                             {.heads = args.heads,
                                              .kv_heads = args.kv_heads,
                                              .head_dim = args.head_dim,
                                              .window = args.window,
                                              .kv = args.cache.k.dtype},
                                             tokens, sequences, max_blocks);
  shape.max_prompt_blocks = prompt_blocks;
  check_ok(FireAttention::check(shape));
  const auto bytes = static_cast<size_t>(FireAttention::workspace_bytes(shape));
  void* workspace = allocate(bytes, "memory for attention's plan");
  // On a stream of its own: ours may be capturing a graph, whose every replay would clear it.
  cudaStream_t aside;
  HEARTH_CUDA_CHECK(cudaStreamCreateWithFlags(&aside, cudaStreamNonBlocking));
  HEARTH_CUDA_CHECK(cudaMemsetAsync(workspace, 0, bytes, aside));
  HEARTH_CUDA_CHECK(cudaStreamSynchronize(aside));
  HEARTH_CUDA_CHECK(cudaStreamDestroy(aside));
  return attentions_.emplace_back(shape, std::make_unique<FireAttention>(shape, workspace, multiprocessors_));
}

Tensor CudaOps::unquantized(const Tensor& like, DType act) {
  const int64_t elements = like.shape.elements();
  if (elements > unquantized_elements_) {  // the old one stays: captured graphs write to it
    unquantized_elements_ = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(elements)));
    unquantized_ = allocate(static_cast<size_t>(unquantized_elements_ * 2), "memory for attention's output");
  }
  return {unquantized_, act, like.shape};
}

void CudaOps::attention(const AttentionArgs& args) {
  if (args.qkv.dim(0) == 0) return;
  Attention& attention = attention_for(args);
  const bool planned_before = planned_ == attention.kernels.get();
  if (!planned_before) {
    timed({"attention plan"}, [&] { attention.kernels->plan(*args.batch, stream_); });
    planned_ = attention.kernels.get();
  }
  // What it reads is in the lengths of the contexts, which the device knows.
  const StepKinds kinds{.prompt = args.batch->may_have_prompt};
  const auto run = [&](const AttentionArgs& a) {
    timed(moving("attention", bytes(a.qkv) + bytes(a.out.data)),
          [&] { check_ok(attention.kernels->run(a, stream_, kinds, planned_before)); });
  };
  if (!args.out.scales) return run(args);
  AttentionArgs inner = args;
  inner.out = {unquantized(args.out.data, args.qkv.dtype), {}};
  run(inner);
  quantize(inner.out.data, args.out, args.batch->true_tokens(), 1);
}

}  // namespace hearth::cuda
