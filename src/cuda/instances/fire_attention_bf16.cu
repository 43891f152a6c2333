// FireAttention: act BF16, KV BF16.
#include "cuda/instances/fire_attention.cuh"

namespace hearth::cuda {

const AttentionKernels& fire_attention_bf16(int64_t head_dim) { return attention_kernels<BF16, BF16>(head_dim); }

}  // namespace hearth::cuda
