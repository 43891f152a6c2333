// Both ways of a sum beside each other, so that the size where one becomes faster shows.
#include "cuda/bench/exchange.h"

#include <algorithm>

#include "cuda/check.h"
#include "cuda/device.h"
#include "cuda/exchange.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kHidden = 4096, kMostRows = 4096;
constexpr int kCalls = 50, kRuns = 7;

struct Rank {
  std::shared_ptr<Place> place;
  std::unique_ptr<Exchange> exchange;
  cudaStream_t stream = nullptr;
  void* in = nullptr;
  void* out = nullptr;
  cudaGraphExec_t replay = nullptr;
};

// Of one call, from the first rank's beginning to its end; the ranks run a graph of kCalls each.
double microseconds_of(std::vector<Rank>& ranks, int64_t rows, ExchangeWay way) {
  for (Rank& rank : ranks) {
    HEARTH_CHECK(rank.place->enter().ok());
    cudaGraph_t graph;
    HEARTH_CUDA_CHECK(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeRelaxed));
    AllReduceArgs args{};
    args.delta = {rank.in, DType::kBF16, {rows, kHidden}};
    args.out = {rank.out, DType::kBF16, {rows, kHidden}};
    for (int i = 0; i < kCalls; ++i) rank.exchange->all_reduce(args, rank.stream, way);
    HEARTH_CUDA_CHECK(cudaStreamEndCapture(rank.stream, &graph));
    HEARTH_CUDA_CHECK(cudaGraphInstantiate(&rank.replay, graph, 0));
    HEARTH_CUDA_CHECK(cudaGraphDestroy(graph));
  }
  HEARTH_CHECK(ranks[0].place->enter().ok());
  cudaEvent_t begin, end;
  HEARTH_CUDA_CHECK(cudaEventCreate(&begin));
  HEARTH_CUDA_CHECK(cudaEventCreate(&end));
  std::vector<float> times;
  for (int run = 0; run < kRuns + 2; ++run) {
    for (size_t r = ranks.size(); r-- > 0;) {  // the first rank last: it waits for nobody's launch
      HEARTH_CHECK(ranks[r].place->enter().ok());
      if (r == 0) HEARTH_CUDA_CHECK(cudaEventRecord(begin, ranks[0].stream));
      HEARTH_CUDA_CHECK(cudaGraphLaunch(ranks[r].replay, ranks[r].stream));
    }
    HEARTH_CUDA_CHECK(cudaEventRecord(end, ranks[0].stream));
    for (Rank& rank : ranks) {
      HEARTH_CHECK(rank.place->enter().ok());
      HEARTH_CUDA_CHECK(cudaStreamSynchronize(rank.stream));
    }
    float ms = 0;
    HEARTH_CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
    if (run >= 2) times.push_back(ms);
  }
  cudaEventDestroy(begin), cudaEventDestroy(end);
  for (Rank& rank : ranks) cudaGraphExecDestroy(rank.replay);
  std::ranges::sort(times);
  return times[kRuns / 2] * 1e3 / kCalls;
}

Status bench_ranks(int size, std::vector<BenchRow>& rows) {
  HEARTH_ASSIGN(const auto places, Place::apart(size));
  const bool one_gpu = size > 1 && places[0]->device() == places[1]->device();
  HEARTH_ASSIGN(auto exchanges, Exchange::make(places, std::chrono::seconds(5)));
  std::vector<Rank> ranks(places.size());
  constexpr size_t kBytes = kMostRows * kHidden * 2;
  for (size_t r = 0; r < ranks.size(); ++r) {
    Rank& rank = ranks[r];
    rank.place = places[r], rank.exchange = std::move(exchanges[r]);
    HEARTH_TRY(rank.place->enter());
    HEARTH_ASSIGN(rank.stream, rank.place->make_stream());
    for (void** memory : {&rank.in, &rank.out}) HEARTH_CUDA_CHECK(cudaMalloc(memory, kBytes));
    fill_normal_bf16(rank.in, kMostRows * kHidden, 1.0f, static_cast<uint32_t>(r));
    HEARTH_CUDA_CHECK(cudaDeviceSynchronize());
  }
  for (const int64_t n : {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
    const int64_t bytes = n * kHidden * 2;
    for (const ExchangeWay way : {ExchangeWay::kFew, ExchangeWay::kMany}) {
      if (way == ExchangeWay::kFew && bytes > Exchange::few_bytes(size)) continue;
      const double us = microseconds_of(ranks, n, way);
      HEARTH_TRY(ranks[0].exchange->status());
      rows.push_back({.kernel = cat("all_reduce, ", size, one_gpu ? " ranks on one GPU" : " GPUs"),
                      .shape = cat(n, " rows of ", kHidden, " bf16, as ", way == ExchangeWay::kFew ? "few" : "many"),
                      .us = us,
                      .tbs = static_cast<double>(bytes) / us * 1e-6});
    }
  }
  for (Rank& rank : ranks) {
    HEARTH_TRY(rank.place->enter());
    cudaFree(rank.in), cudaFree(rank.out);
    cudaStreamDestroy(rank.stream);
  }
  return cuda_status(cudaSetDevice(0), "choosing the GPU");
}

}  // namespace

Result<std::vector<BenchRow>> bench_exchange() {
  std::vector<BenchRow> out;
  HEARTH_ASSIGN(const int there, gpus());
  for (const int size : {2, 4, 8}) {
    if (size <= std::max(there, 4)) HEARTH_TRY(bench_ranks(size, out));
  }
  return out;
}

}  // namespace hearth::cuda
