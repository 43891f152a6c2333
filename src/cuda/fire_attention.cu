// FireAttention on the host side: memory, tensor maps, launches.
#include "cuda/fire_attention.h"

#include <algorithm>

#include "cuda/hopper/tensor_map.h"
#include "cuda/instances/fire_attention.h"
#include "cuda/kernels/attention_plan.cuh"
#include "cuda/kernels/attention_types.cuh"
#include "cuda/kernels/widen_kv.cuh"
#include "cuda/launch.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kSlots = 1024;  // runs of generated rows that leave a partial result, times parts of their heads

// The different windows of a model, a CTA each.
constexpr int kMostPlans = 8;
struct Plans {
  PlanParams of[kMostPlans];
};
__global__ void __launch_bounds__(kPlanThreads, 1) attention_plan_kernel(const __grid_constant__ Plans plans) {
  build_attention_plan(plans.of[blockIdx.x]);
}

const AttentionKernels& kernels_for(const FireAttentionShape& shape, DType kv) {
  const bool e4m3 = kv == DType::kE4M3;
  if (shape.act == DType::kBF16) {
    return e4m3 ? fire_attention_bf16_e4m3(shape.head_dim) : fire_attention_bf16(shape.head_dim);
  }
  return e4m3 ? fire_attention_f16_e4m3(shape.head_dim) : fire_attention_f16(shape.head_dim);
}
const AttentionKernel& decode_kernel(const FireAttentionShape& shape) { return kernels_for(shape, shape.kv).decode; }
const AttentionKernel& prefill_kernel(const FireAttentionShape& shape) { return kernels_for(shape, shape.act).prefill; }

auto widen_kernel(const FireAttentionShape& shape) {
  if (shape.act == DType::kBF16) return shape.head_dim == 128 ? widen_kv_kernel<BF16, 128> : widen_kv_kernel<BF16, 64>;
  return shape.head_dim == 128 ? widen_kv_kernel<F16, 128> : widen_kv_kernel<F16, 64>;
}

int64_t group_of(const FireAttentionShape& shape) { return shape.heads / shape.kv_heads; }
HeadParts parts_of(const FireAttentionShape& shape) { return head_parts(shape.kv_heads, group_of(shape)); }

struct Capacity {
  int64_t decode, prefill;
  explicit Capacity(const FireAttentionShape& shape)
      : decode(shape.max_tokens + kSlots),
        prefill(shape.max_sequences + 1024 +
                shape.max_tokens / (kPrefillUnits * prefill_tokens(static_cast<int32_t>(group_of(shape))))) {}
};

// Hands out consecutive parts of the workspace; with no memory behind it, only adds up.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T>
  T* take(int64_t count) {
    T* at = reinterpret_cast<T*>(base_ + used_);
    used_ += ceil_div(count * static_cast<int64_t>(sizeof(T)), int64_t{256}) * 256;
    return at;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

struct Parts {
  AttentionPlan plan;
  float* partials;
  int32_t* arrivals;
  int64_t bytes;
  Parts(const FireAttentionShape& shape, void* workspace) {
    Carver carver(workspace);
    const Capacity capacity(shape);
    plan.header = carver.take<AttentionPlanHeader>(1);
    plan.decode = carver.take<DecodeItem>(capacity.decode);
    plan.prefill = carver.take<PrefillItem>(capacity.prefill);
    plan.decode_capacity = static_cast<int32_t>(capacity.decode);
    plan.prefill_capacity = static_cast<int32_t>(capacity.prefill);
    plan.slot_capacity = kSlots;
    plan.wide_capacity = static_cast<int32_t>(shape.widens() ? shape.max_prompt_blocks : 0);
    plan.wide_pages = carver.take<WidePage>(plan.wide_capacity);
    plan.wide_tables = carver.take<int32_t>(shape.widens() ? shape.max_sequences * shape.max_blocks : 0);
    const HeadParts parts = parts_of(shape);
    partials = carver.take<float>(kSlots * parts.all * ceil_div(parts.heads, 4) * (4 * shape.head_dim + 256));
    arrivals = carver.take<int32_t>(kSlots * parts.all);
    bytes = carver.used();
  }
};

// A box is one block of one head: 64 rows, in columns of 128 bytes.
Result<CUtensorMap> block_map(const Tensor& cache, int64_t head_dim) {
  return hopper::make_tensor_map(cache.dtype, cache.data, {head_dim, cache.shape.elements() / head_dim}, {2 * head_dim},
                                 {64, kBlockSize}, hopper::Swizzle::k128);
}

// K and V, two arrays of one shape, as one tensor whose last dimension leads from one to the other: a page is one copy.
Result<CUtensorMap> pages_map(const Tensor& k, const Tensor& v, int64_t row_elements, int64_t box_rows) {
  const char *a = static_cast<const char*>(k.data), *b = static_cast<const char*>(v.data);
  const int64_t row = row_elements * dtype_size(k.dtype), column = std::min<int64_t>(row, 128);
  const int64_t inner = box_rows == 1 ? row_elements : column / dtype_size(k.dtype);
  return hopper::make_tensor_map(
      k.dtype, std::min(a, b), {inner, k.shape.elements() / row_elements, row_elements / inner, 2},
      {row, inner * dtype_size(k.dtype), std::abs(b - a)}, {inner, box_rows, row_elements / inner, 2},
      box_rows == 1 ? hopper::Swizzle::kNone
      : row < 128   ? hopper::Swizzle::k64
                    : hopper::Swizzle::k128,
      hopper::Fetch::kAsAsked);
}

}  // namespace

Status FireAttention::check(const FireAttentionShape& shape) {
  if (shape.head_dim != 64 && shape.head_dim != 128) {
    return unimplemented("attention on a GPU takes head dimensions 64 and 128, not ", shape.head_dim);
  }
  if (shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 || group_of(shape) < 1 || group_of(shape) > kMostGroup) {
    return unimplemented("attention on a GPU takes 1 to ", kMostGroup, " query heads a KV head, not ", shape.heads,
                         " over ", shape.kv_heads);
  }
  if (shape.act != DType::kBF16 && shape.act != DType::kF16) {
    return unimplemented("attention on a GPU runs in float16 or bfloat16");
  }
  if (shape.kv != shape.act && shape.kv != DType::kE4M3) {
    return unimplemented("the KV cache on a GPU is in the model's type or float8_e4m3");
  }
  if (Capacity(shape).prefill > kMaxPrefillItems) {
    return unimplemented("attention on a GPU does not plan a step of ", shape.max_tokens, " tokens and ",
                         shape.max_sequences, " sequences: lower --max-num-batched-tokens or --max-num-seqs");
  }
  return {};
}

int64_t FireAttention::workspace_bytes(const FireAttentionShape& shape) { return Parts(shape, nullptr).bytes; }

FireAttention::FireAttention(const FireAttentionShape& shape, const Memory& memory, int multiprocessors)
    : shape_(shape), memory_(memory), multiprocessors_(multiprocessors) {
  HEARTH_CHECK(check(shape).ok() && (!shape.widens() || (memory.wide_k && memory.wide_v)));
  const Parts parts(shape, memory.workspace);
  plan_ = parts.plan;
  partials_ = parts.partials;
  arrivals_ = parts.arrivals;
  for (const AttentionKernel& kernel : {decode_kernel(shape), prefill_kernel(shape)}) {
    allow_shared(kernel.run, static_cast<size_t>(kernel.shared_bytes));
  }
}

void FireAttention::plan(std::span<const FireAttention* const> all, const Batch& batch, cudaStream_t stream) {
  HEARTH_CHECK(!all.empty() && all.size() <= kMostPlans);
  Plans plans{};
  for (size_t i = 0; i < all.size(); ++i) plans.of[i] = all[i]->plan_params(batch);
  launch(attention_plan_kernel, {.grid = static_cast<unsigned>(all.size()), .block = kPlanThreads}, stream, plans);
}

PlanParams FireAttention::plan_params(const Batch& batch) const {
  const int64_t max_blocks = batch.block_tables.dim(1);
  HEARTH_CHECK(batch.num_sequences <= shape_.max_sequences && (!shape_.widens() || max_blocks <= shape_.max_blocks));
  return {
      .sizes = batch.sizes.as<int32_t>(),
      .query_start = batch.query_start.as<int32_t>(),
      .context_lens = batch.context_lens.as<int32_t>(),
      .prompt_lens = batch.prompt_lens.as<int32_t>(),
      .block_tables = batch.block_tables.as<int32_t>(),
      .max_blocks = max_blocks,
      .plan = plan_,
      .kv_heads = static_cast<int32_t>(shape_.kv_heads),
      .group = static_cast<int32_t>(group_of(shape_)),
      .window = static_cast<int32_t>(shape_.window),
      .multiprocessors = multiprocessors_,
      .page_bytes = static_cast<int32_t>(2 * kBlockSize * shape_.head_dim * dtype_size(shape_.kv)),
      .head_parts = parts_of(shape_).all,
  };
}

Status FireAttention::run(const AttentionArgs& args, cudaStream_t stream, StepKinds kinds, bool planned_before) const {
  HEARTH_CHECK(
      (args.shape == AttentionShape{shape_.heads, shape_.kv_heads, shape_.head_dim, shape_.window, shape_.kv}));
  HEARTH_CHECK(args.qkv.dtype == shape_.act);
  const bool out_e4m3 = args.out.data.dtype == DType::kE4M3;
  HEARTH_CHECK(out_e4m3 ? !args.out.scales : args.out.data.dtype == shape_.act);
  HEARTH_CHECK(args.cache.k.dtype == shape_.kv && args.cache.v.dtype == shape_.kv);
  const int64_t group = group_of(shape_), stride = args.qkv.dim(1), head_dim = shape_.head_dim;
  AttentionParams params{};
  HEARTH_ASSIGN(params.q_map, hopper::make_tensor_map(
                                  shape_.act, args.qkv.data, {head_dim, stride / head_dim, args.qkv.dim(0)},
                                  {head_dim * 2, stride * 2}, {64, group, prefill_tokens(static_cast<int32_t>(group))},
                                  hopper::Swizzle::k128));
  HEARTH_ASSIGN(params.pages_map, pages_map(args.cache.k, args.cache.v, head_dim, kBlockSize));
  params.keys_at = args.cache.k.data < args.cache.v.data ? 0 : 1;
  if (shape_.kv == DType::kE4M3) {
    HEARTH_ASSIGN(params.scales_map, pages_map(args.cache.k_scales, args.cache.v_scales, kBlockSize, 1));
    params.key_scales_at = args.cache.k_scales.data < args.cache.v_scales.data ? 0 : 1;
  }
  params.plan = plan_;
  params.q = args.qkv.data;
  params.q_stride = stride;
  params.block_tables = args.batch->block_tables.as<int32_t>();
  params.context_lens = args.batch->context_lens.as<int32_t>();
  params.max_blocks = args.batch->block_tables.dim(1);
  params.out = args.out.data.data;
  params.out_e4m3 = out_e4m3;
  params.out_factor = args.out_factor;
  HEARTH_CHECK(!args.sinks || args.sinks.dim(0) == shape_.heads);
  params.sinks = args.sinks ? args.sinks.as<float>() : nullptr;
  params.partials = partials_;
  params.arrivals = arrivals_;
  params.kv_heads = static_cast<int32_t>(shape_.kv_heads);
  params.group = static_cast<int32_t>(group);
  params.window = static_cast<int32_t>(shape_.window);
  params.head_parts = parts_of(shape_);
  params.scale = args.scale * 1.44269504088896340736f;
  params.beside_prefill = kinds.prompt;
  params.planned_before = planned_before;
  const auto start = [&](const AttentionKernel& kernel, const AttentionParams& given) {
    launch(kernel.run,
           {.grid = static_cast<unsigned>(multiprocessors_),
            .block = static_cast<unsigned>(kernel.threads),
            .shared_bytes = static_cast<size_t>(kernel.shared_bytes)},
           stream, given);
  };
  if (kinds.prompt) {
    AttentionParams prompt = params;
    Tensor k = args.cache.k, v = args.cache.v;
    if (shape_.kv == DType::kE4M3) {
      widen(args, stream, planned_before);
      prompt.block_tables = plan_.wide_tables;
      const Shape pages{shape_.max_prompt_blocks, shape_.kv_heads, kBlockSize, head_dim};
      k = {memory_.wide_k, shape_.act, pages}, v = {memory_.wide_v, shape_.act, pages};
    }
    HEARTH_ASSIGN(prompt.k_map, block_map(k, head_dim));
    HEARTH_ASSIGN(prompt.v_map, block_map(v, head_dim));
    start(prefill_kernel(shape_), prompt);
  }
  if (kinds.generated) start(decode_kernel(shape_), params);
  return {};
}

void FireAttention::widen(const AttentionArgs& args, cudaStream_t stream, bool planned_before) const {
  HEARTH_CHECK(shape_.widens());
  const WidenParams params{
      .k = static_cast<const uint8_t*>(args.cache.k.data),
      .v = static_cast<const uint8_t*>(args.cache.v.data),
      .k_scales = args.cache.k_scales.as<float>(),
      .v_scales = args.cache.v_scales.as<float>(),
      .wide_k = static_cast<uint16_t*>(memory_.wide_k),
      .wide_v = static_cast<uint16_t*>(memory_.wide_v),
      .plan = plan_,
      .kv_heads = static_cast<int32_t>(shape_.kv_heads),
      .planned_before = planned_before,
  };
  const auto grid = static_cast<unsigned>(kWidenCtas * multiprocessors_);
  launch(widen_kernel(shape_), {.grid = grid, .block = kWidenThreads}, stream, params);
}

}  // namespace hearth::cuda
