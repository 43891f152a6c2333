// Measuring fire_attention: shapes, floors and rows.
#include "cuda/bench/fire_attention.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <memory>
#include <random>

#include "cuda/check.h"

namespace hearth::cuda {
namespace {

class Buffer {
 public:
  explicit Buffer(int64_t bytes) {
    HEARTH_CUDA_CHECK(cudaMalloc(&data_, static_cast<size_t>(std::max<int64_t>(bytes, 16))));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  void* data() const { return data_; }
  void upload(const std::vector<int32_t>& from) {
    HEARTH_CUDA_CHECK(cudaMemcpy(data_, from.data(), from.size() * 4, cudaMemcpyHostToDevice));
  }

 private:
  void* data_ = nullptr;
};

// A step on the device of sequences of one length: the prompts, then those with one row.
struct Step {
  int64_t sequences, rows, max_blocks;
  Buffer sizes, query_start, context_lens, prompt_lens, tables, workspace, wide_k, wide_v;
  Batch batch;
  std::unique_ptr<FireAttention> attention;

  Step(const FireAttentionShape& shape, const AttentionBench& c)
      : sequences(c.prompts + c.generated),
        rows(c.prompts * c.context + c.generated),
        max_blocks(c.context / kBlockSize),
        sizes(12),
        query_start(4 * (sequences + 1)),
        context_lens(4 * sequences),
        prompt_lens(4 * sequences),
        tables(4 * sequences * max_blocks),
        workspace(FireAttention::workspace_bytes(shape)),
        wide_k(2 * shape.max_prompt_blocks * shape.kv_heads * kBlockSize * shape.head_dim),
        wide_v(2 * shape.max_prompt_blocks * shape.kv_heads * kBlockSize * shape.head_dim) {
    const auto n = static_cast<size_t>(sequences);
    std::vector<int32_t> starts{0}, prompts(n, 1), blocks(n * static_cast<size_t>(max_blocks));
    for (int64_t i = 0; i < sequences; ++i)
      starts.push_back(starts.back() + static_cast<int32_t>(i < c.prompts ? c.context : 1));
    std::fill_n(prompts.begin(), c.prompts, static_cast<int32_t>(c.context));
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
    sizes.upload({static_cast<int32_t>(rows), static_cast<int32_t>(sequences), 0});
    query_start.upload(starts);
    context_lens.upload(std::vector<int32_t>(n, static_cast<int32_t>(c.context)));
    prompt_lens.upload(prompts);
    tables.upload(blocks);
    batch.num_tokens = rows;
    batch.num_sequences = sequences;
    batch.sizes = {sizes.data(), DType::kI32, {3}};
    batch.query_start = {query_start.data(), DType::kI32, {sequences + 1}};
    batch.context_lens = {context_lens.data(), DType::kI32, {sequences}};
    batch.prompt_lens = {prompt_lens.data(), DType::kI32, {sequences}};
    batch.block_tables = {tables.data(), DType::kI32, {sequences, max_blocks}};
    HEARTH_CUDA_CHECK(cudaMemset(workspace.data(), 0, static_cast<size_t>(FireAttention::workspace_bytes(shape))));
    int multiprocessors = 0;
    HEARTH_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
    attention = std::make_unique<FireAttention>(
        shape, FireAttention::Memory{workspace.data(), wide_k.data(), wide_v.data()}, multiprocessors);
  }
  void plan(cudaStream_t stream) const {
    const FireAttention* const all[] = {attention.get()};
    FireAttention::plan(all, batch, stream);
  }
};

FireAttentionShape shape_of(const AttentionBench& c) {
  return {.act = DType::kBF16,
          .kv = c.kv,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .max_tokens = c.prompts * c.context + c.generated,
          .max_sequences = c.prompts + c.generated,
          .max_blocks = c.context / kBlockSize,
          .max_prompt_blocks = c.kv == DType::kE4M3 ? c.prompts * c.context / kBlockSize : 0};
}

}  // namespace

BenchRow bench_attention(const AttentionBench& c, const Ceilings& ceilings, double sustain) {
  const FireAttentionShape shape = shape_of(c);
  Step step(shape, c);
  const bool e4m3 = c.kv == DType::kE4M3;
  const int64_t blocks = step.sequences * step.max_blocks, elements = blocks * c.kv_heads * kBlockSize * c.head_dim;
  const int64_t cache_rows = blocks * c.kv_heads * kBlockSize, width = (c.heads + 2 * c.kv_heads) * c.head_dim;
  const int64_t bytes = 2 * (elements * dtype_size(c.kv) + (e4m3 ? 4 * cache_rows : 0));
  constexpr int64_t kBeyondCache = 400 << 20;
  const int64_t layers = c.prompts ? 4 : std::clamp<int64_t>(kBeyondCache / bytes + 1, 2, 96);
  const Buffer k(layers * elements * dtype_size(c.kv)), v(layers * elements * dtype_size(c.kv));
  const Buffer k_scales(layers * cache_rows * 4), v_scales(layers * cache_rows * 4);
  const Buffer qkv(step.rows * width * 2), out(step.rows * c.heads * c.head_dim * 2);
  for (const Buffer* cache : {&k, &v}) {
    if (e4m3) {
      fill_normal_e4m3(cache->data(), layers * elements, 60.0f, 1);
    } else {
      fill_normal_bf16(cache->data(), layers * elements, 1.0f, 1);
    }
  }
  for (const Buffer* scales : {&k_scales, &v_scales}) {
    fill_f32(static_cast<float*>(scales->data()), layers * cache_rows, 1.0f / 60);
  }
  fill_normal_bf16(qkv.data(), step.rows * width, 1.0f, 2);
  step.plan(nullptr);
  HEARTH_CUDA_CHECK(cudaDeviceSynchronize());

  const auto layer = [&](const Buffer& from, int64_t row_bytes, int64_t i) {
    return static_cast<char*>(from.data()) + i * cache_rows * row_bytes;
  };
  const Timing timing = time_calls(
      static_cast<int>(layers),
      [&](int i, cudaStream_t stream) {
        AttentionArgs args;
        args.qkv = {qkv.data(), DType::kBF16, {step.rows, width}};
        args.batch = &step.batch;
        args.shape = {c.heads, c.kv_heads, c.head_dim, 0, c.kv};
        args.scale = 0.08838835f;
        const int64_t row = c.head_dim * dtype_size(c.kv);
        args.cache.k = {layer(k, row, i), c.kv, {blocks, c.kv_heads, kBlockSize, c.head_dim}};
        args.cache.v = {layer(v, row, i), c.kv, {blocks, c.kv_heads, kBlockSize, c.head_dim}};
        args.cache.k_scales = {layer(k_scales, 4, i), DType::kF32, {blocks, c.kv_heads, kBlockSize}};
        args.cache.v_scales = {layer(v_scales, 4, i), DType::kF32, {blocks, c.kv_heads, kBlockSize}};
        args.out.data = {out.data(), DType::kBF16, {step.rows, c.heads * c.head_dim}};
        HEARTH_CHECK(step.attention->run(args, stream, {.prompt = c.prompts > 0, .generated = c.generated > 0}).ok());
      },
      sustain);
  const double us = timing.us;
  const double pairs = (0.5 * c.prompts * c.context + c.generated) * c.context;
  const double flops = 4 * pairs * c.heads * c.head_dim;
  const char* kind = !c.prompts ? "decode" : !c.generated ? "prefill" : "mixed";
  BenchRow row{cat("fire_attention_", kind),
               cat(dtype_name(c.kv), " ",
                   c.prompts && c.generated ? cat(c.prompts, "+", c.generated) : cat(step.sequences), "x", c.context),
               us};
  row.tflops = flops / us / 1e6;
  row.tbs = bytes / us / 1e6;
  row.share_of_floor = std::max(bytes / ceilings.read_tbs, flops / ceilings.bf16_tflops) / 1e6 / us;
  row.ghz = timing.ghz;
  return row;
}

BenchRow bench_attention_plan(const AttentionBench& c) {
  Step step(shape_of(c), c);
  const Timing timing = time_calls(20, [&](int, cudaStream_t stream) { step.plan(stream); });
  return {"attention_plan", cat(dtype_name(c.kv), " ", c.prompts, "+", c.generated, "x", c.context), timing.us};
}

std::vector<AttentionBench> fire_attention_cases() {
  std::vector<AttentionBench> out;
  for (DType kv : {DType::kBF16, DType::kE4M3}) {
    for (auto [sequences, context] : std::initializer_list<std::pair<int64_t, int64_t>>{
             {1, 1024}, {8, 1024}, {64, 1024}, {256, 1024}, {1, 32768}, {8, 8192}, {32, 4096}, {64, 8192}}) {
      out.push_back({kv, 0, sequences, context});
    }
    for (auto [sequences, context] :
         std::initializer_list<std::pair<int64_t, int64_t>>{{1, 1024}, {8, 1024}, {2, 4096}, {1, 16384}}) {
      out.push_back({kv, sequences, 0, context});
    }
    out.push_back({kv, 1, 50, 1024});
  }
  return out;
}

}  // namespace hearth::cuda
