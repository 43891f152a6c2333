// FireAttention: act F16, KV E4M3.
#include "cuda/instances/fire_attention.cuh"

namespace hearth::cuda {

const AttentionKernels& fire_attention_f16_e4m3(int64_t head_dim) { return attention_kernels<F16, E4M3>(head_dim); }

}  // namespace hearth::cuda
