// rope_append_kv: normalizes queries and keys where asked, rotates them by their position, and writes keys and values
// to their slots.
#include <array>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"
#include "ops/kv_layout.h"

namespace hearth {
namespace {

constexpr int64_t kMostHeadDim = 1024;

void rotate(float* x, const float* cos_sin, int64_t rotary) {
  const int64_t half = rotary / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half], c = cos_sin[i], s = cos_sin[half + i];
    x[i] = a * c - b * s;
    x[i + half] = b * c + a * s;
  }
}

// In the order that ops.h states.
float sum_of_squares(const float* x, int64_t n) {
  std::array<float, kMostHeadDim / 8> sums;
  int64_t count = n / 8;
  for (int64_t v = 0; v < count; ++v) {
    float sum = 0;
    for (int64_t i = 8 * v; i < 8 * v + 8; ++i) sum = std::fma(x[i], x[i], sum);
    sums[static_cast<size_t>(v)] = sum;
  }
  for (; count > 1; count = ceil_div(count, 2)) {
    const int64_t half = ceil_div(count, 2);
    for (int64_t v = half; v < count; ++v) sums[static_cast<size_t>(v - half)] += sums[static_cast<size_t>(v)];
  }
  return sums[0];
}

// x [heads, n] in place; `weight` is of one head or of all.
void normalize(float* x, int64_t heads, int64_t n, const Tensor& weight, float epsilon) {
  const bool whole = weight.dim(0) != n;
  HEARTH_CHECK(n <= kMostHeadDim && weight.dim(0) == (whole ? heads * n : n));
  float all = 0;
  for (int64_t h = 0; whole && h < heads; ++h) all += sum_of_squares(x + h * n, n);
  for (int64_t h = 0; h < heads; ++h) {
    float* head = x + h * n;
    const float mean = whole ? all / static_cast<float>(heads * n) : sum_of_squares(head, n) / static_cast<float>(n);
    const float inverse = 1.0f / std::sqrt(mean + epsilon);
    const float* w = weight.as<float>() + (whole ? h * n : 0);
    for (int64_t i = 0; i < n; ++i) head[i] = head[i] * inverse * w[i];
  }
}

// One head's key or value into its row of the cache.
void append(const float* x, int64_t n, int64_t row, int64_t head, const Tensor& cache, const Tensor& scales,
            const Tensor& static_scale) {
  if (cache.dtype != DType::kE4M3) {
    visit_act(cache.dtype, [&]<typename T>(T) { simd::convert(x, cache.as<T>() + row * n, n); });
    return;
  }
  E4M3* q = cache.as<E4M3>() + row * n;
  if (static_scale) {
    const float scale = static_scale.as<float>()[head];
    quantize(x, n, 1.0f / scale, q);
    scales.as<float>()[row] = scale;
  } else {
    scales.as<float>()[row] = quantize_group(x, n, q);
  }
}

}  // namespace

void CpuOps::rope_append_kv(const RopeAppendKvArgs& args) {
  const int64_t n = args.head_dim, rotary = args.cos_sin.dim(1), all_heads = args.heads + 2 * args.kv_heads;
  HEARTH_CHECK(rotary % 2 == 0 && rotary <= n && args.qkv.dim(1) == all_heads * n);
  const KvLayout layout{args.kv_heads, n};
  visit_act(args.qkv.dtype, [&]<typename Act>(Act) {
    pool_.run(args.qkv.dim(0), [&](int64_t begin, int64_t end, int thread) {
      float* row = scratch_[thread].rows.reserve(all_heads * n);
      for (int64_t token = begin; token < end; ++token) {
        const int64_t position = args.positions.as<int32_t>()[token], slot = args.slots.as<int64_t>()[token];
        HEARTH_CHECK(position >= 0 && position < args.cos_sin.dim(0));
        HEARTH_CHECK(slot >= 0 && slot < args.cache.k.dim(0) * kBlockSize);
        const float* cos_sin = args.cos_sin.as<float>() + position * rotary;
        Act* stored = args.qkv.as<Act>() + token * all_heads * n;
        simd::convert(stored, row, all_heads * n);
        if (args.norm.q) {
          normalize(row, args.heads, n, args.norm.q, args.norm.epsilon);
          normalize(row + args.heads * n, args.kv_heads, n, args.norm.k, args.norm.epsilon);
        }
        for (int64_t h = 0; h < args.heads; ++h) rotate(row + h * n, cos_sin, rotary);
        simd::convert(row, stored, args.heads * n);
        for (int64_t h = 0; h < args.kv_heads; ++h) {
          float *key = row + (args.heads + h) * n, *value = key + args.kv_heads * n;
          const int64_t cache_row = layout.slot_row(slot, h);
          rotate(key, cos_sin, rotary);
          append(key, n, cache_row, h, args.cache.k, args.cache.k_scales, args.static_k_scale);
          append(value, n, cache_row, h, args.cache.v, args.cache.v_scales, args.static_v_scale);
        }
      }
    });
  });
}

}  // namespace hearth
