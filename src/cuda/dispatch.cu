// dispatch and quantize on the host side.
#include "cuda/kernels/dispatch.cuh"
#include "cuda/launch.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {
namespace {

void launch_dispatch(const Tensor& x, const Tensor& rows, int64_t top_k, const Activation& out, const Tensor& num_rows,
                     cudaStream_t stream) {
  const int64_t tokens = x.dim(0), hidden = x.dim(1);
  if (tokens == 0) return;
  const bool fp8 = out.data.dtype == DType::kE4M3;
  HEARTH_CHECK(fp8 || out.data.dtype == x.dtype);
  visit_act(x.dtype, [&]<typename T>(T) {
    const DispatchParams<T> params{
        .x = data<T>(x),
        .rows = data<int32_t>(rows),
        .out = out.data.data,
        .scales = fp8 ? out.scales.as<float>() : nullptr,
        .scale_stride = fp8 ? out.scales.dim(1) : 0,
        .num_rows = num_rows_on_device(num_rows),
        .hidden = static_cast<int>(hidden),
        .top_k = static_cast<int>(top_k),
    };
    launch(fp8 ? dispatch_kernel<T, true> : dispatch_kernel<T, false>, row_blocks(tokens, hidden), stream, params);
  });
}

}  // namespace

void quantize(const Tensor& x, const Activation& out, const Tensor& num_rows, cudaStream_t stream) {
  HEARTH_CHECK(out.data.dtype == DType::kE4M3);
  launch_dispatch(x, {}, 1, out, num_rows, stream);
}

void dispatch(const Tensor& x, const Routing& routing, const Activation& out, const Tensor& num_rows,
              cudaStream_t stream) {
  launch_dispatch(x, routing.rows, routing.rows.dim(1), out, num_rows, stream);
}

}  // namespace hearth::cuda
