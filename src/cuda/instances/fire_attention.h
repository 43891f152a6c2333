// The compiled attention kernels by type, KV type and head dimension; each row of the table has a .cu of its own.
#pragma once

#include <cuda_runtime_api.h>

#include "tensor/dtype.h"

namespace hearth::cuda {

struct AttentionParams;

struct AttentionKernels {
  void (*decode)(AttentionParams);
  int decode_threads, decode_shared_bytes;
  void (*prefill)(AttentionParams);
  int prefill_threads, prefill_shared_bytes;
};

const AttentionKernels& fire_attention_bf16(int64_t head_dim);
const AttentionKernels& fire_attention_f16(int64_t head_dim);
const AttentionKernels& fire_attention_bf16_e4m3(int64_t head_dim);
const AttentionKernels& fire_attention_f16_e4m3(int64_t head_dim);

}  // namespace hearth::cuda
