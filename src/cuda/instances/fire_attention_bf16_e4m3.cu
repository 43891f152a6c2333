// FireAttention: act BF16, KV E4M3.
#include "cuda/instances/fire_attention.cuh"

namespace hearth::cuda {

const AttentionKernels& fire_attention_bf16_e4m3(int64_t head_dim) { return attention_kernels<BF16, E4M3>(head_dim); }

}  // namespace hearth::cuda
