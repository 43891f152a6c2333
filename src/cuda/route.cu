// route on the host side: which kernel, how many tokens a cluster takes, and who places them.
#include <algorithm>

#include "cuda/kernels/route.cuh"
#include "cuda/kernels/route_few.cuh"
#include "cuda/kernels/shared_gate.cuh"
#include "cuda/launch.h"
#include "cuda/limits.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"
#include "ops/router_spans.h"

namespace hearth::cuda {
namespace {

constexpr int kMostRouted = 512;  // experts
constexpr int64_t kMostShared = 220 << 10, kHalfOfShared = 110 << 10;

constexpr int64_t kMostOfOne = 32;    // tokens that one cluster takes
constexpr int64_t kManyClusters = 8;  // of which each takes as few as it can

// Beyond kManyClusters a CTA has two tokens at least.
int64_t most_ctas(int64_t tokens) { return kRouteCluster * kManyClusters + ceil_div(tokens, int64_t{2}); }

Choosing choosing_of(const RouteArgs& args) {
  return {.bias = data<float>(args.bias),
          .correction = data<float>(args.correction),
          .scoring = args.scoring,
          .num_experts = static_cast<int>(args.gate.dim(0)),
          .top_k = static_cast<int>(args.out.experts.dim(1))};
}

struct RouteShape {
  int clusters = 0, own_log2 = 0, tiles_log2 = 0, spans_log2 = 0, span = 0, pair_stride = 0;
  int64_t shared_bytes = 0;
};

// One cluster for few tokens, which need no place_kernel then. For more, tokens of a cluster cost more than
// place_kernel does, and clusters compete once they are many.
template <typename Gate>
RouteShape shape_of(int64_t tokens, int hidden, int num_experts) {
  const RouterSpans spans = router_spans(hidden, num_experts);
  RouteShape out;
  const int64_t expert_tiles = ceil_div(num_experts, kExpertTile), padded_experts = expert_tiles * kExpertTile;
  while (kRouteCluster << out.spans_log2 < spans.count) ++out.spans_log2;
  while ((2 << out.tiles_log2) <= kRouteWarps >> out.spans_log2 && 1 << out.tiles_log2 < expert_tiles) ++out.tiles_log2;
  out.span = static_cast<int>(spans.length);
  out.pair_stride = (out.span << out.spans_log2) * 4 + 64;  // neighbours 64 bytes apart: all banks of shared memory
  const bool carries = spans.length > (sizeof(Gate) == 2 ? 8 : 4) * kProductBlock;
  const auto shared_bytes = [&](int own_log2) {
    const int64_t own = int64_t{1} << own_log2, tiles = std::max<int64_t>(own / 2, 1);
    return spans.count * own * padded_experts * 4 +
           tiles * (8 * out.pair_stride + (carries ? 2 * kRouteThreads * 16 : 0));
  };
  const bool one = tokens <= kMostOfOne;
  const int64_t wanted = one ? tokens : ceil_div(tokens, kManyClusters);
  const auto fits = [&](int own_log2) { return shared_bytes(own_log2) <= (one ? kMostShared : kHalfOfShared); };
  while (kRouteCluster << out.own_log2 < std::min<int64_t>(wanted, kMostRouteTokens) && fits(out.own_log2 + 1))
    ++out.own_log2;
  out.clusters = static_cast<int>(std::max<int64_t>(ceil_div(tokens, int64_t{kRouteCluster} << out.own_log2), 1));
  out.shared_bytes = shared_bytes(out.own_log2);
  HEARTH_CHECK(out.shared_bytes <= kMostShared && out.clusters * kRouteCluster <= most_ctas(tokens));
  return out;
}

template <typename T, typename Gate, int kSlots>
void launch_route(const RouteArgs& args, void* bits_memory, cudaStream_t stream) {
  const int64_t tokens = args.x.dim(0);
  const auto hidden = static_cast<int>(args.x.dim(1)), num_experts = static_cast<int>(args.gate.dim(0));
  static_assert(kMostRows <= kMostPlaced && kMostExperts <= kMostRouted);
  HEARTH_CHECK(tokens <= kMostPlaced);
  const RouteShape shape = shape_of<Gate>(tokens, hidden, num_experts);
  auto* bits = shape.clusters > 1 ? static_cast<ChosenBits<kSlots>*>(bits_memory) : nullptr;
  const RouteParams<T, Gate, kSlots> params{
      .x = data<T>(args.x),
      .gate = data<Gate>(args.gate),
      .experts = args.out.experts.as<int32_t>(),
      .weights = args.out.weights.as<float>(),
      .rows = args.out.rows.as<int32_t>(),
      .starts = args.out.starts.as<int32_t>(),
      .ends = args.out.ends.as<int32_t>(),
      .bits = bits,
      .choosing = choosing_of(args),
      .num_rows = num_rows_on_device(args.num_rows),
      .tokens = tokens,
      .hidden = hidden,
      .own_log2 = shape.own_log2,
      .tiles_log2 = shape.tiles_log2,
      .spans_log2 = shape.spans_log2,
      .span = shape.span,
      .pair_stride = shape.pair_stride,
  };
  const auto kernel = route_kernel<T, Gate, kSlots>;
  allow_shared(kernel, kMostShared);
  launch(kernel,
         {.grid = static_cast<unsigned>(shape.clusters * kRouteCluster),
          .block = kRouteThreads,
          .shared_bytes = static_cast<size_t>(shape.shared_bytes),
          .cluster = kRouteCluster},
         stream, params);
  if (!bits) return;
  const PlaceParams<kSlots> place{.bits = bits,
                                  .experts = params.experts,
                                  .rows = params.rows,
                                  .starts = params.starts,
                                  .ends = params.ends,
                                  .num_rows = params.num_rows,
                                  .tokens = tokens,
                                  .num_experts = num_experts,
                                  .top_k = params.choosing.top_k,
                                  .own_log2 = shape.own_log2};
  launch(place_kernel<kSlots>,
         {.grid = static_cast<unsigned>(ceil_div(tokens, int64_t{kPlaceWarps} << shape.own_log2)),
          .block = kPlaceWarps * 32},
         stream, place);
}

template <typename T>
void launch_shared_gate(const RouteArgs& args, cudaStream_t stream) {
  const SharedGateParams<T> params{.x = data<T>(args.x),
                                   .gate = args.shared_gate.as<float>(),
                                   .weights = args.out.shared_weights.as<float>(),
                                   .num_rows = num_rows_on_device(args.num_rows),
                                   .tokens = args.x.dim(0),
                                   .hidden = static_cast<int>(args.x.dim(1))};
  launch(shared_gate_kernel<T>,
         {.grid = static_cast<unsigned>(ceil_div(params.tokens, int64_t{kSharedGateThreads / 32})),
          .block = kSharedGateThreads},
         stream, params);
}

constexpr int kFewTokensInLargeStep = 4;  // a block's, once one token a block is more than two blocks a multiprocessor

template <typename T, typename Gate>
void launch_route_few(const RouteArgs& args, uint32_t* finished, cudaStream_t stream) {
  const RouteFewParams<T, Gate> params{
      .x = data<T>(args.x),
      .gate = data<Gate>(args.gate),
      .experts = args.out.experts.as<int32_t>(),
      .weights = args.out.weights.as<float>(),
      .rows = args.out.rows.as<int32_t>(),
      .starts = args.out.starts.as<int32_t>(),
      .ends = args.out.ends.as<int32_t>(),
      .finished = finished,
      .choosing = choosing_of(args),
      .num_rows = num_rows_on_device(args.num_rows),
      .tokens = args.x.dim(0),
      .hidden = static_cast<int>(args.x.dim(1)),
  };
  const bool large = params.tokens > 264;
  const int64_t blocks = large ? ceil_div(params.tokens, kFewTokensInLargeStep) : std::max<int64_t>(params.tokens, 1);
  const auto kernel = large ? route_few_kernel<T, Gate, kFewTokensInLargeStep> : route_few_kernel<T, Gate, 1>;
  launch(kernel, {.grid = static_cast<unsigned>(blocks), .block = kFewThreads}, stream, params);
}

}  // namespace

int64_t route_bits_bytes(int64_t max_tokens) {
  return most_ctas(max_tokens) * static_cast<int64_t>(sizeof(ChosenBits<kMostRouted / 32>));
}

// Which kernel takes a model depends on the model alone: they sum in different orders.
void route(const RouteArgs& args, uint32_t* finished, void* bits, cudaStream_t stream) {
  const int64_t num_experts = args.gate.dim(0), top_k = args.out.experts.dim(1);
  HEARTH_CHECK(!args.correction || args.scoring.sigmoid);
  HEARTH_CHECK(args.x.dim(1) % kVector == 0 && num_experts <= kMostRouted && top_k <= 32 && top_k <= num_experts);
  visit_act(args.x.dtype, [&]<typename T>(T) {
    if (args.shared_gate && args.x.dim(0) > 0) launch_shared_gate<T>(args, stream);
    const auto of_gate = [&]<typename Gate>(Gate) {
      if (num_experts <= kFewExperts) return launch_route_few<T, Gate>(args, finished, stream);
      if (num_experts <= 128) return launch_route<T, Gate, 4>(args, bits, stream);
      launch_route<T, Gate, kMostRouted / 32>(args, bits, stream);
    };
    if (args.gate.dtype == DType::kF32) return of_gate(0.0f);
    HEARTH_CHECK(args.gate.dtype == args.x.dtype);
    of_gate(T{});
  });
}

}  // namespace hearth::cuda
