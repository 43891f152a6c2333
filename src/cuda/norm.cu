// norm on the host side.
#include <algorithm>

#include "cuda/kernels/norm.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

namespace {

template <typename T, int kPerThread, bool kExperts>
auto norm_kernel_for(NormScales scales) {
  if (scales == NormScales::kRow) return norm_kernel<T, kPerThread, kExperts, NormScales::kRow>;
  if (scales == NormScales::kGroups) return norm_kernel<T, kPerThread, kExperts, NormScales::kGroups>;
  return norm_kernel<T, kPerThread, kExperts, NormScales::kNone>;
}

}  // namespace

void norm(const NormArgs& args, cudaStream_t stream) {
  const int64_t rows = args.tokens ? args.tokens.dim(0) : args.residual.dim(0), hidden = args.residual.dim(1);
  if (rows == 0) return;
  const Routing* routing = args.delta ? args.routing : nullptr;
  const int64_t top_k = routing ? routing->rows.dim(1) : 0;
  HEARTH_CHECK(hidden % kVector == 0 && top_k <= 32);
  const bool fp8 = args.out.data && args.out.data.dtype == DType::kE4M3;
  NormScales scales = NormScales::kNone;
  if (fp8) scales = args.out.scales.dim(0) == 1 ? NormScales::kRow : NormScales::kGroups;
  visit_act(args.residual.dtype, [&]<typename T>(T) {
    const NormParams<T> params{
        .residual = data<T>(args.residual),
        .sum = data<T>(args.sums()),
        .delta = data<T>(args.delta),
        .expert_rows = routing ? routing->rows.as<int32_t>() : nullptr,
        .expert_weights = routing ? routing->weights.as<float>() : nullptr,
        .top_k = static_cast<int>(top_k),
        .shared = routing ? data<T>(routing->shared) : nullptr,
        .shared_weights = routing && routing->shared ? data<float>(routing->shared_weights) : nullptr,
        .tokens = data<int32_t>(args.tokens),
        .weight = args.weight.as<float>(),
        .out_act = data<T>(args.out_act),
        .out_act_too = fp8 ? nullptr : data<T>(args.out.data),
        .out_e4m3 = fp8 ? data<uint8_t>(args.out.data) : nullptr,
        .out_scales = fp8 ? args.out.scales.as<float>() : nullptr,
        .scale_stride = fp8 ? args.out.scales.dim(1) : 0,
        .num_rows = num_rows_on_device(args.num_rows),
        .rows = rows,
        .hidden = static_cast<int>(hidden),
        .epsilon = args.epsilon,
    };
    // Of experts' rows a thread has several vectors in flight as it is.
    const int64_t few_rows = routing ? 1 : rows;
    visit_per_thread<4>(few_rows, hidden, kNormThreads, [&]<int kPerThread>() {
      const auto kernel =
          routing ? norm_kernel_for<T, kPerThread, true>(scales) : norm_kernel_for<T, kPerThread, false>(scales);
      launch(kernel, walking_blocks(kernel, rows, hidden, kPerThread), stream, params);
    });
  });
}

}  // namespace hearth::cuda
