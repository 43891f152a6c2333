// route on the host side.
#include "cuda/kernels/route.cuh"
#include "cuda/launch.h"
#include "cuda/limits.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {
namespace {

constexpr int kTokensInLargeStep = 4;  // a block's, once one token a block is more than two blocks a multiprocessor

template <typename T, typename Gate>
void launch_route(const RouteArgs& args, uint32_t* finished, cudaStream_t stream) {
  const RouteParams<T, Gate> params{
      .x = data<T>(args.x),
      .gate = data<Gate>(args.gate),
      .experts = args.out.experts.as<int32_t>(),
      .weights = args.out.weights.as<float>(),
      .rows = args.out.rows.as<int32_t>(),
      .starts = args.out.starts.as<int32_t>(),
      .ends = args.out.ends.as<int32_t>(),
      .finished = finished,
      .num_rows = num_rows_on_device(args.num_rows),
      .tokens = args.x.dim(0),
      .hidden = static_cast<int>(args.x.dim(1)),
      .num_experts = static_cast<int>(args.gate.dim(0)),
      .top_k = static_cast<int>(args.out.experts.dim(1)),
      .renormalize = args.scoring.renormalize,
  };
  static_assert(kMaxExperts == kMostExperts);
  HEARTH_CHECK(params.hidden % kVector == 0 && params.num_experts <= kMaxExperts && params.top_k <= 32 &&
               params.top_k <= params.num_experts);
  const bool large = params.tokens > 264;
  const int64_t blocks = large ? ceil_div(params.tokens, kTokensInLargeStep) : std::max<int64_t>(params.tokens, 1);
  constexpr int kMostSlots = kMaxExperts / 32;
  auto kernel = large ? route_kernel<T, Gate, kTokensInLargeStep, kMostSlots> : route_kernel<T, Gate, 1, kMostSlots>;
  if (params.num_experts <= 32) {
    kernel = large ? route_kernel<T, Gate, kTokensInLargeStep, 1> : route_kernel<T, Gate, 1, 1>;
  }
  launch(kernel, {.grid = static_cast<unsigned>(blocks), .block = kRouteThreads}, stream, params);
}

}  // namespace

void route(const RouteArgs& args, uint32_t* finished, cudaStream_t stream) {
  visit_act(args.x.dtype, [&]<typename T>(T) {
    if (args.gate.dtype == DType::kF32) return launch_route<T, float>(args, finished, stream);
    HEARTH_CHECK(args.gate.dtype == args.x.dtype);
    launch_route<T, T>(args, finished, stream);
  });
}

}  // namespace hearth::cuda
