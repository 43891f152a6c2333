// The ops around the products and attention, one kernel each, on one stream: see ops/ops.h for what they compute. Act
// types float16 and bfloat16; `hidden` a multiple of 8, for norm at most 16,384, where a row has one scale at most
// 32,768; top_k at most 32. Start norm with routing only where a product lies between it and route: it reads ahead
// where a token's rows are.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/l2_prefetch.h"
#include "ops/ops.h"

namespace hearth::cuda {

void embed(const EmbedArgs& args, cudaStream_t stream);

void norm(const NormArgs& args, cudaStream_t stream);

// act [rows, dim] to e4m3 and scales. One of `num_rows` stands for `rows_each` rows.
void quantize(const Tensor& x, const Activation& out, const Tensor& num_rows, int64_t rows_each, cudaStream_t stream);
// The same, or a copy where `out` is act, to the rows of each token's experts.
void dispatch(const Tensor& x, const Routing& routing, const Activation& out, const Tensor& num_rows,
              cudaStream_t stream, const L2Prefetch& ahead = {});

void rope_append_kv(const RopeAppendKvArgs& args, cudaStream_t stream);

// At most 512 experts. Experts' rows follow one another without gaps. Of this stream's own: `finished`, a device
// counter, 0 before its first launch, and `bits`, memory of so many bytes.
int64_t route_bits_bytes(int64_t max_tokens);
void route(const RouteArgs& args, uint32_t* finished, void* bits, cudaStream_t stream);

void sample(const SampleArgs& args, cudaStream_t stream);

}  // namespace hearth::cuda
