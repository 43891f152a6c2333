// combine on the host side.
#include "cuda/kernels/combine.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

void combine(const CombineArgs& args, cudaStream_t stream) {
  const int64_t tokens = args.out.dim(0), hidden = args.out.dim(1);
  if (tokens == 0) return;
  HEARTH_CHECK(args.expert_out.dtype == args.out.dtype && args.routing->rows.dim(1) <= 32);
  visit_act(args.out.dtype, [&]<typename T>(T) {
    const CombineParams<T> params{
        .expert_out = data<T>(args.expert_out),
        .rows = args.routing->rows.as<int32_t>(),
        .weights = args.routing->weights.as<float>(),
        .out = data<T>(args.out),
        .num_rows = num_rows_on_device(args.num_rows),
        .tokens = tokens,
        .hidden = static_cast<int>(hidden),
        .top_k = static_cast<int>(args.routing->rows.dim(1)),
    };
    launch(combine_kernel<T>, row_blocks(tokens, hidden), stream, params);
  });
}

}  // namespace hearth::cuda
