// The compiled attention kernels by type, KV type and head dimension; each row of the table has a .cu of its own.
#pragma once

#include <cuda_runtime_api.h>

#include "tensor/dtype.h"

namespace hearth::cuda {

struct AttentionParams;

struct AttentionKernel {
  void (*run)(AttentionParams) = nullptr;
  int threads = 0, shared_bytes = 0;
};

struct AttentionKernels {
  AttentionKernel decode;
  AttentionKernel prefill;  // none with e4m3 pages: prompts read wide ones, of the act type
};

const AttentionKernels& fire_attention_bf16(int64_t head_dim);
const AttentionKernels& fire_attention_f16(int64_t head_dim);
const AttentionKernels& fire_attention_bf16_e4m3(int64_t head_dim);
const AttentionKernels& fire_attention_f16_e4m3(int64_t head_dim);

}  // namespace hearth::cuda
