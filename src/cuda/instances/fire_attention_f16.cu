// FireAttention: act F16, KV F16.
#include "cuda/instances/fire_attention.cuh"

namespace hearth::cuda {

const AttentionKernels& fire_attention_f16(int64_t head_dim) { return attention_kernels<F16, F16>(head_dim); }

}  // namespace hearth::cuda
