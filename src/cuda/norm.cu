// norm on the host side.
#include <algorithm>

#include "cuda/kernels/norm.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

void norm(const NormArgs& args, cudaStream_t stream) {
  const int64_t rows = args.tokens ? args.tokens.dim(0) : args.residual.dim(0), hidden = args.residual.dim(1);
  if (rows == 0) return;
  const Routing* routing = args.delta ? args.routing : nullptr;
  const int64_t top_k = routing ? routing->rows.dim(1) : 0;
  HEARTH_CHECK(hidden % kVector == 0 && top_k <= 32);
  const bool fp8 = args.out.data && args.out.data.dtype == DType::kE4M3;
  visit_act(args.residual.dtype, [&]<typename T>(T) {
    const NormParams<T> params{
        .residual = data<T>(args.residual),
        .delta = data<T>(args.delta),
        .expert_rows = routing ? routing->rows.as<int32_t>() : nullptr,
        .expert_weights = routing ? routing->weights.as<float>() : nullptr,
        .top_k = static_cast<int>(top_k),
        .tokens = data<int32_t>(args.tokens),
        .weight = args.weight.as<float>(),
        .out_act = data<T>(args.out_act),
        .out_act_too = fp8 ? nullptr : data<T>(args.out.data),
        .out_e4m3 = fp8 ? data<uint8_t>(args.out.data) : nullptr,
        .out_scales = fp8 ? args.out.scales.as<float>() : nullptr,
        .row_scales = fp8 && args.out.scales.dim(0) == 1,
        .scale_stride = fp8 ? args.out.scales.dim(1) : 0,
        .num_rows = num_rows_on_device(args.num_rows),
        .rows = rows,
        .hidden = static_cast<int>(hidden),
        .epsilon = args.epsilon,
    };
    visit_per_thread<4>(rows, hidden, kNormThreads, [&]<int kPerThread>() {
      const auto kernel = routing ? norm_kernel<T, kPerThread, true> : norm_kernel<T, kPerThread, false>;
      launch(kernel, walking_blocks(kernel, rows, hidden, kPerThread), stream, params);
    });
  });
}

}  // namespace hearth::cuda
