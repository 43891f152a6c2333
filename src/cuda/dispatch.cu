// dispatch and quantize on the host side.
#include <algorithm>

#include "cuda/kernels/dispatch.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {
namespace {

void launch_dispatch(const Tensor& x, const Tensor& rows, int64_t top_k, const Activation& out, const Tensor& num_rows,
                     int64_t rows_each, cudaStream_t stream, const L2Prefetch& ahead) {
  const int64_t tokens = x.dim(0), hidden = x.dim(1);
  if (tokens == 0) return;
  const bool fp8 = out.data.dtype == DType::kE4M3;
  HEARTH_CHECK((fp8 || out.data.dtype == x.dtype) && top_k <= 32);
  visit_act(x.dtype, [&]<typename T>(T) {
    const DispatchParams<T> params{
        .x = data<T>(x),
        .rows = data<int32_t>(rows),
        .out = out.data.data,
        .scales = fp8 ? out.scales.as<float>() : nullptr,
        .scale_stride = fp8 ? out.scales.dim(1) : 0,
        .num_rows = num_rows_on_device(num_rows),
        .tokens = tokens,
        .rows_each = static_cast<int>(rows_each),
        .hidden = static_cast<int>(hidden),
        .top_k = static_cast<int>(top_k),
        .ahead = ahead,
    };
    if (fp8 && out.scales.dim(0) == 1) {
      return visit_per_thread<8>(tokens, hidden, kRowQuantizeThreads, [&]<int kPerThread>() {
        const auto kernel = dispatch_row_kernel<T, kPerThread>;
        launch(kernel, walking_blocks(kernel, tokens, hidden, kPerThread, ahead.count), stream, params);
      });
    }
    launch(fp8 ? dispatch_kernel<T, true> : dispatch_kernel<T, false>, row_blocks(tokens, hidden), stream, params);
  });
}

}  // namespace

void quantize(const Tensor& x, const Activation& out, const Tensor& num_rows, int64_t rows_each, cudaStream_t stream) {
  HEARTH_CHECK(out.data.dtype == DType::kE4M3);
  launch_dispatch(x, {}, 1, out, num_rows, rows_each, stream, {});
}

void dispatch(const Tensor& x, const Routing& routing, const Activation& out, const Tensor& num_rows,
              cudaStream_t stream, const L2Prefetch& ahead) {
  launch_dispatch(x, routing.rows, routing.rows.dim(1), out, num_rows, 1, stream, ahead);
}

}  // namespace hearth::cuda
