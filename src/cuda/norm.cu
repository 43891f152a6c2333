// norm on the host side.
#include "cuda/kernels/norm.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

void norm(const NormArgs& args, cudaStream_t stream) {
  const int64_t rows = args.residual.dim(0), hidden = args.residual.dim(1);
  if (rows == 0) return;
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
        .scale_stride = fp8 ? args.out.scales.dim(1) : 0,
        .num_rows = num_rows_on_device(args.num_rows),
        .hidden = static_cast<int>(hidden),
        .epsilon = args.epsilon,
    };
    visit_row(hidden, [&]<int kPerThread>(std::integral_constant<int, kPerThread>, unsigned threads) {
      launch(norm_kernel<T, kPerThread>, {.grid = static_cast<unsigned>(rows), .block = threads}, stream, params);
    });
  });
}

}  // namespace hearth::cuda
