// norm on the host side.
#include <algorithm>

#include "cuda/kernels/norm.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

void norm(const NormArgs& args, cudaStream_t stream) {
  const int64_t rows = args.residual.dim(0), hidden = args.residual.dim(1);
  if (rows == 0) return;
  HEARTH_CHECK(hidden % kVector == 0 && hidden <= 4 * kNormThreads * kVector);
  const bool fp8 = args.out.data && args.out.data.dtype == DType::kE4M3;
  visit_act(args.residual.dtype, [&]<typename T>(T) {
    const NormParams<T> params{
        .residual = data<T>(args.residual),
        .delta = data<T>(args.delta),
        .weight = args.weight.as<float>(),
        .out_act = data<T>(args.out_act),
        .out_act_too = fp8 ? nullptr : data<T>(args.out.data),
        .out_e4m3 = fp8 ? data<uint8_t>(args.out.data) : nullptr,
        .out_scales = fp8 ? args.out.scales.as<float>() : nullptr,
        .row_scales = fp8 && args.out.scales.dim(0) == 1,
        .scale_stride = fp8 ? args.out.scales.dim(1) : 0,
        .num_rows = num_rows_on_device(args.num_rows),
        .hidden = static_cast<int>(hidden),
        .epsilon = args.epsilon,
    };
    const auto start = [&](auto kernel) {
      const int64_t threads = std::min<int64_t>(kNormThreads, ceil_div(hidden / kVector, 32) * 32);
      launch(kernel, {.grid = static_cast<unsigned>(rows), .block = static_cast<unsigned>(threads)}, stream, params);
    };
    const int64_t per_thread = ceil_div(hidden / kVector, kNormThreads);
    if (per_thread == 1) return start(norm_kernel<T, 1>);
    if (per_thread == 2) return start(norm_kernel<T, 2>);
    start(norm_kernel<T, 4>);
  });
}

}  // namespace hearth::cuda
