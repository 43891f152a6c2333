// Kernel entry points of one act and KV type, for both head dimensions.
#pragma once

#include "cuda/instances/fire_attention.h"
#include "cuda/kernels/fire_attention_decode.cuh"
#include "cuda/kernels/fire_attention_prefill.cuh"

namespace hearth::cuda {

template <typename Act, typename Kv, int kHeadDim>
__global__ void __launch_bounds__(DecodeShape<Act, Kv, kHeadDim>::kThreads, 1)
    decode_kernel(const __grid_constant__ AttentionParams p) {
  fire_attention_decode<Act, Kv, kHeadDim>(p);
}

template <typename Act, int kHeadDim>
__global__ void __launch_bounds__(PrefillShape<kHeadDim>::kThreads, 1)
    prefill_kernel(const __grid_constant__ AttentionParams p) {
  fire_attention_prefill<Act, kHeadDim>(p);
}

template <typename Act, typename Kv, int kHeadDim>
AttentionKernels attention_kernels() {
  using Decode = DecodeShape<Act, Kv, kHeadDim>;
  AttentionKernels out{.decode = {decode_kernel<Act, Kv, kHeadDim>, Decode::kThreads, Decode::kSharedBytes}};
  if constexpr (std::is_same_v<Kv, Act>) {
    using Prefill = PrefillShape<kHeadDim>;
    out.prefill = {prefill_kernel<Act, kHeadDim>, Prefill::kThreads, Prefill::kSharedBytes};
  }
  return out;
}

template <typename Act, typename Kv>
const AttentionKernels& attention_kernels(int64_t head_dim) {
  static const AttentionKernels wide = attention_kernels<Act, Kv, 128>(), narrow = attention_kernels<Act, Kv, 64>();
  return head_dim == 128 ? wide : narrow;
}

}  // namespace hearth::cuda
