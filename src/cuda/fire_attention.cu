// FireAttention on the host side: memory, tensor maps, launches.
#include "cuda/fire_attention.h"

#include <algorithm>

#include "cuda/hopper/tensor_map.h"
#include "cuda/instances/fire_attention.h"
#include "cuda/kernels/attention_plan.cuh"
#include "cuda/kernels/attention_types.cuh"
#include "cuda/launch.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kSlots = 1024;  // runs of generated rows that leave a partial result, times KV heads

__global__ void __launch_bounds__(kPlanThreads, 1) attention_plan_kernel(const __grid_constant__ PlanParams p) {
  build_attention_plan(p);
}

const AttentionKernels& kernels_for(const FireAttentionShape& shape) {
  const bool e4m3 = shape.kv == DType::kE4M3;
  if (shape.act == DType::kBF16) {
    return e4m3 ? fire_attention_bf16_e4m3(shape.head_dim) : fire_attention_bf16(shape.head_dim);
  }
  return e4m3 ? fire_attention_f16_e4m3(shape.head_dim) : fire_attention_f16(shape.head_dim);
}

int64_t group_of(const FireAttentionShape& shape) { return shape.heads / shape.kv_heads; }

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
    partials = carver.take<float>(kSlots * shape.kv_heads * ceil_div(group_of(shape), int64_t{4}) *
                                  (4 * shape.head_dim + 256));
    arrivals = carver.take<int32_t>(kSlots * shape.kv_heads);
    bytes = carver.used();
  }
};

// A box is one block of one head: 64 rows, in columns of 128 bytes where they are longer.
Result<CUtensorMap> block_map(const Tensor& cache, int64_t head_dim) {
  const int64_t element = dtype_size(cache.dtype), row = head_dim * element;
  return hopper::make_tensor_map(cache.dtype, cache.data, {head_dim, cache.shape.elements() / head_dim}, {row},
                                 {std::min<int64_t>(row, 128) / element, kBlockSize},
                                 row < 128 ? hopper::Swizzle::k64 : hopper::Swizzle::k128);
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
  if (shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0 || group_of(shape) < 1 || group_of(shape) > 8) {
    return unimplemented("attention on a GPU takes 1 to 8 query heads a KV head, not ", shape.heads, " over ",
                         shape.kv_heads);
  }
  if (shape.act != DType::kBF16 && shape.act != DType::kF16) {
    return unimplemented("attention on a GPU runs in float16 or bfloat16");
  }
  if (shape.kv != shape.act && shape.kv != DType::kE4M3) {
    return unimplemented("the KV cache on a GPU is in the model's type or float8_e4m3");
  }
  if (Capacity(shape).prefill > kMaxPrefillItems) return unimplemented("a step of so many tokens does not fit a plan");
  return {};
}

int64_t FireAttention::workspace_bytes(const FireAttentionShape& shape) { return Parts(shape, nullptr).bytes; }

FireAttention::FireAttention(const FireAttentionShape& shape, void* workspace, int multiprocessors)
    : shape_(shape), multiprocessors_(multiprocessors) {
  HEARTH_CHECK(check(shape).ok());
  const Parts parts(shape, workspace);
  plan_ = parts.plan;
  partials_ = parts.partials;
  arrivals_ = parts.arrivals;
  const AttentionKernels& kernels = kernels_for(shape);
  allow_shared(kernels.decode, static_cast<size_t>(kernels.decode_shared_bytes));
  allow_shared(kernels.prefill, static_cast<size_t>(kernels.prefill_shared_bytes));
}

void FireAttention::plan(const Batch& batch, cudaStream_t stream) const {
  const PlanParams params{
      .sizes = batch.sizes.as<int32_t>(),
      .query_start = batch.query_start.as<int32_t>(),
      .context_lens = batch.context_lens.as<int32_t>(),
      .prompt_lens = batch.prompt_lens.as<int32_t>(),
      .plan = plan_,
      .kv_heads = static_cast<int32_t>(shape_.kv_heads),
      .group = static_cast<int32_t>(group_of(shape_)),
      .window = static_cast<int32_t>(shape_.window),
      .multiprocessors = multiprocessors_,
      .page_bytes = static_cast<int32_t>(2 * kBlockSize * shape_.head_dim * dtype_size(shape_.kv)),
  };
  launch(attention_plan_kernel, {.grid = 1, .block = kPlanThreads}, stream, params);
}

Status FireAttention::run(const AttentionArgs& args, cudaStream_t stream, StepKinds kinds, bool planned_before) const {
  HEARTH_CHECK(args.heads == shape_.heads && args.kv_heads == shape_.kv_heads && args.head_dim == shape_.head_dim);
  HEARTH_CHECK(args.window == shape_.window && args.qkv.dtype == shape_.act && args.out.data.dtype == shape_.act);
  HEARTH_CHECK(args.cache.k.dtype == shape_.kv && args.cache.v.dtype == shape_.kv);
  const int64_t group = group_of(shape_), stride = args.qkv.dim(1), head_dim = shape_.head_dim;
  AttentionParams params;
  HEARTH_ASSIGN(params.k_map, block_map(args.cache.k, head_dim));
  HEARTH_ASSIGN(params.v_map, block_map(args.cache.v, head_dim));
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
  params.v = args.cache.v.data;
  const bool scaled = shape_.kv == DType::kE4M3;
  params.k_scales = scaled ? args.cache.k_scales.as<float>() : nullptr;
  params.v_scales = scaled ? args.cache.v_scales.as<float>() : nullptr;
  params.block_tables = args.batch->block_tables.as<int32_t>();
  params.context_lens = args.batch->context_lens.as<int32_t>();
  params.max_blocks = args.batch->block_tables.dim(1);
  params.out = args.out.data.data;
  params.partials = partials_;
  params.arrivals = arrivals_;
  params.kv_heads = static_cast<int32_t>(shape_.kv_heads);
  params.group = static_cast<int32_t>(group);
  params.window = static_cast<int32_t>(shape_.window);
  params.scale = args.scale * 1.44269504088896340736f;
  params.beside_prefill = kinds.prompt;
  params.planned_before = planned_before;
  const AttentionKernels& kernels = kernels_for(shape_);
  const auto start = [&](void (*kernel)(AttentionParams), int threads, int shared_bytes) {
    launch(kernel,
           {.grid = static_cast<unsigned>(multiprocessors_),
            .block = static_cast<unsigned>(threads),
            .shared_bytes = static_cast<size_t>(shared_bytes)},
           stream, params);
  };
  if (kinds.prompt) start(kernels.prefill, kernels.prefill_threads, kernels.prefill_shared_bytes);
  if (kinds.generated) {
    start(kernels.decode, kernels.decode_threads, kernels.decode_shared_bytes);
  }
  return {};
}

}  // namespace hearth::cuda
