// The ranks' memory, and the kernels over it.
#include "cuda/exchange.h"

#include <algorithm>

#include "cuda/kernels/exchange_norm.cuh"
#include "cuda/launch.h"
#include "cuda/visit.h"

namespace hearth::cuda {

class ExchangeGroup {
 public:
  ExchangeGroup(std::span<const std::shared_ptr<Place>> places, Duration limit)
      : places_(places.begin(), places.end()), limit_(limit), params_(places.size()) {}

  ~ExchangeGroup() {
    for (size_t i = 0; i < memory_.size(); ++i) {
      if (places_[i]->enter().ok()) cudaFree(memory_[i]);
    }
    if (failure_) cudaFreeHost(const_cast<uint32_t*>(failure_));
  }

  Status init() {
    HEARTH_TRY(places_[0]->enter());
    void* word = nullptr;
    HEARTH_TRY(cuda_status(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocPortable | cudaHostAllocMapped),
                           "a word that ranks share"));
    *static_cast<uint32_t*>(word) = 0;
    failure_ = static_cast<uint32_t*>(word);
    std::vector<ExchangeMemory> received(places_.size());
    for (size_t rank = 0; rank < places_.size(); ++rank) {
      HEARTH_TRY(places_[rank]->enter());
      for (const auto& other : places_) HEARTH_TRY(open_to(*places_[rank], *other));
      HEARTH_TRY(allocate(rank, received[rank]));
    }
    for (ExchangeParams& params : params_) std::ranges::copy(received, params.of);
    return {};
  }

  bool one_gpu() const { return places_.size() > 1 && places_[0]->device() == places_[1]->device(); }
  const ExchangeParams& params(int rank) const { return params_[static_cast<size_t>(rank)]; }

  void fail(int rank) const {
    if (*failure_ == 0) *failure_ = kRankFailed | static_cast<uint32_t>(rank);
  }
  Status status() const {
    const uint32_t word = *failure_, rank = word & 0xff;
    if (word == 0) return {};
    if (word & kRankLate) {
      return internal_error("rank ", rank, " of ", places_.size(), " did not come to the others within ",
                            seconds(limit_), " s");
    }
    return internal_error("rank ", rank, " of ", places_.size(), " failed");
  }

 private:
  // Work of `place`, whose GPU is current, may write the memory of `other`.
  static Status open_to(const Place& place, const Place& other) {
    if (place.device() == other.device()) return {};
    int can = 0;
    HEARTH_TRY(cuda_status(cudaDeviceCanAccessPeer(&can, place.device(), other.device()), "asking for peer memory"));
    if (!can) {
      return Status(Code::kUnavailable,
                    cat("GPU ", place.device(), " cannot write the memory of GPU ", other.device()));
    }
    const cudaError_t error = cudaDeviceEnablePeerAccess(other.device(), 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled) {
      cudaGetLastError();
      return {};
    }
    return cuda_status(error, "opening peer memory");
  }

  Status allocate(size_t rank, ExchangeMemory& received) {
    const auto size = static_cast<int>(places_.size());
    ExchangeParams& p = params_[rank];
    p.rank = static_cast<int>(rank), p.size = size;
    p.limit_ns = static_cast<uint64_t>(limit_.count());
    p.capacity = Exchange::few_bytes(size) / 16;
    const int64_t slots = 2 * size * p.capacity * 2, shares = int64_t{kShareBlocks} * kPieceVectors;
    const int64_t flags = 2 * kShareBlocks * size;
    const int64_t bytes = (slots + 2 * shares) * 16 + (flags + kExchangeBlocks + kShareBlocks + 1) * 4;
    void* memory = nullptr;
    if (cudaMalloc(&memory, static_cast<size_t>(bytes)) != cudaSuccess) {
      cudaGetLastError();
      return Status(Code::kResourceExhausted, cat("no GPU memory for what ranks send: needs ", bytes, " bytes"));
    }
    memory_.push_back(memory);
    HEARTH_TRY(cuda_status(cudaMemset(memory, 0, static_cast<size_t>(bytes)), "clearing what ranks send"));
    HEARTH_TRY(cuda_status(cudaDeviceSynchronize(), "clearing what ranks send"));
    auto* vectors = static_cast<uint4*>(memory);
    auto* words = reinterpret_cast<uint32_t*>(vectors + slots + 2 * shares);
    received = {vectors, vectors + slots, vectors + slots + shares, words};
    p.calls = words + flags;
    p.rounds = p.calls + kExchangeBlocks;
    p.lost = p.rounds + kShareBlocks;
    void* failure = nullptr;
    HEARTH_TRY(cuda_status(cudaHostGetDevicePointer(&failure, const_cast<uint32_t*>(failure_), 0), "a shared word"));
    p.failure = static_cast<uint32_t*>(failure);
    return {};
  }

  const std::vector<std::shared_ptr<Place>> places_;
  const Duration limit_;
  std::vector<ExchangeParams> params_;
  std::vector<void*> memory_;
  volatile uint32_t* failure_ = nullptr;
};

namespace {

// Calls f<kMost> with the least that holds so many ranks.
template <typename F>
void visit_ranks(int ranks, F&& f) {
  if (ranks <= 2) return f.template operator()<2>();
  if (ranks <= 4) return f.template operator()<4>();
  f.template operator()<kMostExchangeRanks>();
}

bool takes_few(int64_t bytes, int ranks, ExchangeWay way) {
  const bool fits = bytes <= Exchange::few_bytes(ranks);
  HEARTH_CHECK(fits || way != ExchangeWay::kFew);
  return fits && way != ExchangeWay::kMany;
}

template <typename T>
AllReduceParams<T> params_of(const AllReduceArgs& args) {
  const Routing* routing = args.routing;
  return {
      .delta = data<T>(args.delta),
      .experts = routing && routing->here.size() > 0 ? routing->experts.as<int32_t>() : nullptr,
      .first_here = routing ? static_cast<int32_t>(routing->here.begin) : 0,
      .end_here = routing ? static_cast<int32_t>(routing->here.end) : 0,
      .expert_rows = routing ? routing->rows.as<int32_t>() : nullptr,
      .expert_weights = routing ? routing->weights.as<float>() : nullptr,
      .shared = routing ? data<T>(routing->shared) : nullptr,
      .shared_weights = routing ? data<float>(routing->shared_weights) : nullptr,
      .top_k = routing ? static_cast<int>(routing->rows.dim(1)) : 0,
      .out = data<T>(args.out),
      .num_rows = num_rows_on_device(args.num_rows),
      .rows = args.out.dim(0),
      .vectors = static_cast<int>(args.out.dim(1) / kVector),
  };
}

constexpr LaunchShape kFewShape{.grid = kExchangeBlocks, .block = kExchangeThreads};
constexpr LaunchShape kManyShape{.grid = kShareBlocks, .block = kShareThreads};

}  // namespace

// To where sending each vector to every rank beats sharing out the sum, on GPUs of one NVLink switch.
int64_t Exchange::few_bytes(int ranks) {
  if (ranks <= 2) return 1 << 20;
  return ranks <= 4 ? 384 << 10 : 128 << 10;
}

Result<std::vector<std::unique_ptr<Exchange>>> Exchange::make(std::span<const std::shared_ptr<Place>> places,
                                                              Duration limit) {
  if (std::ssize(places) > kMostExchangeRanks) {
    return unimplemented("GPUs exchange among at most ", kMostExchangeRanks, " ranks, not ", places.size());
  }
  const auto group = std::make_shared<ExchangeGroup>(places, limit);
  HEARTH_TRY(group->init());
  std::vector<std::unique_ptr<Exchange>> out;
  const auto size = static_cast<int>(places.size());
  for (int rank = 0; rank < size; ++rank) {
    out.push_back(std::unique_ptr<Exchange>(new Exchange(group, Shard{rank, size})));
  }
  return Result(std::move(out));
}

Exchange::~Exchange() = default;
bool Exchange::one_gpu() const { return group_->one_gpu(); }
void Exchange::fail() const { group_->fail(shard_.rank); }
Status Exchange::status() const { return group_->status(); }

void Exchange::all_reduce(const AllReduceArgs& args, cudaStream_t stream, ExchangeWay way) const {
  const int64_t rows = args.out.dim(0), hidden = args.out.dim(1);
  if (rows == 0) return;
  HEARTH_CHECK(hidden % kVector == 0 && args.delta.dtype == args.out.dtype);
  const ExchangeParams& x = group_->params(shard_.rank);
  visit_act(args.out.dtype, [&]<typename T>(T) {
    const AllReduceParams<T> params = params_of<T>(args);
    if (!takes_few(args.out.bytes(), x.size, way)) {
      const auto kernel = args.routing ? all_reduce_many_kernel<T, true> : all_reduce_many_kernel<T, false>;
      return launch(kernel, kManyShape, stream, params, x);
    }
    visit_ranks(x.size, [&]<int kMost>() {
      const auto kernel = args.routing ? all_reduce_few_kernel<T, true, kMost> : all_reduce_few_kernel<T, false, kMost>;
      launch(kernel, kFewShape, stream, params, x);
    });
  });
}

bool Exchange::takes_norm(const AllReduceArgs& sum, const NormArgs& norm) const {
  const int64_t hidden = sum.out.dim(1);
  if (norm.out.scales && norm.out.scales.dim(0) > 1) return false;
  return sum.out.dim(0) > 0 && !norm.tokens && hidden <= 2 * kExchangeNormThreads * kVector &&
         takes_few(sum.out.bytes(), shard_.size, ExchangeWay::kBySize);
}

void Exchange::all_reduce_norm(const AllReduceArgs& sum, const NormArgs& norm, cudaStream_t stream) const {
  HEARTH_CHECK(takes_norm(sum, norm) && norm.delta.data == sum.out.data && sum.out.dim(1) % kVector == 0);
  const ExchangeParams& x = group_->params(shard_.rank);
  const bool fp8 = norm.out.data && norm.out.data.dtype == DType::kE4M3;
  visit_act(sum.out.dtype, [&]<typename T>(T) {
    const AllReduceParams<T> params = params_of<T>(sum);
    const NormParams<T> then{
        .residual = data<T>(norm.residual),
        .sum = data<T>(norm.residual),
        .weight = norm.weight.as<float>(),
        .out_act = data<T>(norm.out_act),
        .out_act_too = fp8 ? nullptr : data<T>(norm.out.data),
        .out_e4m3 = fp8 ? data<uint8_t>(norm.out.data) : nullptr,
        .out_scales = norm.out.scales ? norm.out.scales.as<float>() : nullptr,
        .hidden = static_cast<int>(sum.out.dim(1)),
        .epsilon = norm.epsilon,
    };
    visit_ranks(x.size, [&]<int kMost>() {
      const bool one = params.vectors <= kExchangeNormThreads;
      const int64_t threads = ceil_div(ceil_div(int64_t{params.vectors}, int64_t{one ? 1 : 2}), int64_t{32}) * 32;
      launch(one ? all_reduce_norm_kernel<T, kMost, 1> : all_reduce_norm_kernel<T, kMost, 2>,
             {.grid = kExchangeBlocks, .block = static_cast<unsigned>(threads)}, stream, params, then, x);
    });
  });
}

void Exchange::all_gather(const AllGatherArgs& args, cudaStream_t stream, ExchangeWay way) const {
  const int64_t rows = args.part.dim(0), columns = args.part.dim(1);
  if (rows == 0) return;
  HEARTH_CHECK(args.part.dtype == DType::kF32 && columns % 4 == 0);
  HEARTH_CHECK(args.out.dim(0) == rows && args.out.dim(1) == columns * shard_.size);
  const ExchangeParams& x = group_->params(shard_.rank);
  const AllGatherParams params{
      .part = args.part.as<float>(),
      .out = args.out.as<float>(),
      .num_rows = num_rows_on_device(args.num_rows),
      .rows = rows,
      .vectors = static_cast<int>(columns / 4),
  };
  if (!takes_few(args.part.bytes(), x.size, way)) {
    return launch(all_gather_many_kernel, kManyShape, stream, params, x);
  }
  visit_ranks(x.size, [&]<int kMost>() { launch(all_gather_few_kernel<kMost>, kFewShape, stream, params, x); });
}

}  // namespace hearth::cuda
