// Sums and gathers among ranks, each on a GPU, or its share of one, against the CPU's ranks to the bit: by both ways,
// of every size, one call after another and in captured graphs. A rank that is lost, or fails, ends the others' waits.
#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>

#include "comm/communicator.h"
#include "cpu/cpu_backend.h"
#include "cuda/exchange.h"
#include "cuda/gpu_testing.h"
#include "cuda/small_kernels.h"

namespace hearth::cuda {
namespace {

constexpr int64_t kHidden = 4096;

struct Rank {
  std::shared_ptr<Place> place;
  std::unique_ptr<Exchange> exchange;
  cudaStream_t stream = nullptr;
};

class Ranks {
 public:
  explicit Ranks(int size, Duration limit = std::chrono::seconds(5)) : ranks_(static_cast<size_t>(size)) {
    auto places = Place::apart(size);
    if (!places.ok()) std::fprintf(stderr, "%s\n", places.status().message().c_str());
    auto exchanges = Exchange::make(*places, limit);
    if (!exchanges.ok()) std::fprintf(stderr, "%s\n", exchanges.status().message().c_str());
    for (size_t r = 0; r < ranks_.size(); ++r) {
      ranks_[r] = {(*places)[r], std::move((*exchanges)[r]), nullptr};
      EXPECT_TRUE(ranks_[r].place->enter().ok());
      ranks_[r].stream = ranks_[r].place->make_stream().value();
    }
  }
  ~Ranks() {
    for (Rank& rank : ranks_) {
      (void)rank.place->enter();
      cudaStreamSynchronize(rank.stream);
      cudaStreamDestroy(rank.stream);
    }
    cudaSetDevice(0);
  }
  int size() const { return static_cast<int>(ranks_.size()); }
  const Exchange& exchange(int rank) const { return *ranks_[static_cast<size_t>(rank)].exchange; }

  // Calls f(rank, exchange, stream) where each rank works.
  template <typename F>
  void each(F&& f) {
    for (int r = 0; r < size(); ++r) {
      Rank& rank = ranks_[static_cast<size_t>(r)];
      ASSERT_TRUE(rank.place->enter().ok());
      f(r, *rank.exchange, rank.stream);
    }
  }
  // Not ok where a rank did not come.
  Status synchronize() {
    for (Rank& rank : ranks_) {
      (void)rank.place->enter();
      HEARTH_TRY(cuda_status(cudaStreamSynchronize(rank.stream), "waiting for a rank"));
    }
    return ranks_[0].exchange->status();
  }

 private:
  std::vector<Rank> ranks_;
};

// What the ranks of one call have, and get.
struct Sum {
  std::vector<Both> delta, out, num_rows;
  std::vector<Routing> host, device;  // empty: none
  AllReduceArgs args(size_t r, bool on_device) const {
    const auto side = [&](const Both& b) { return on_device ? b.device : b.host; };
    const auto& routing = on_device ? device : host;
    return {side(delta[r]), routing.empty() ? nullptr : &routing[r], side(out[r]),
            on_device && num_rows[r] ? side(num_rows[r]) : Tensor{}};
  }
};

// Cheap, with sums that need rounding.
Both values(Case& c, DType dtype, Shape shape) {
  Both out = c.poison(dtype, shape);
  uint64_t state = c.random()();
  for (int64_t i = 0; i < shape.elements(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    set_element(out.host, i, static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-30f);
  }
  out.upload();
  return out;
}

// `parallel`: each rank has its part of the experts, and nothing in the other experts' rows.
Sum make_sum(Case& c, int ranks, DType dtype, int64_t rows, int64_t hidden, int64_t top_k, bool shared,
             int64_t true_rows = -1, bool parallel = false) {
  Sum sum;
  for (int r = 0; r < ranks; ++r) {
    sum.delta.push_back(values(c, dtype, {rows * std::max<int64_t>(top_k, 1), hidden}));
    sum.out.push_back(c.poison(dtype, {rows, hidden}));
    sum.num_rows.push_back(true_rows < 0 ? Both{}
                                         : c.fill<int32_t>(DType::kI32, {1}, [&](int64_t) { return true_rows; }));
    if (top_k == 0) continue;
    std::vector<int32_t> places(static_cast<size_t>(rows * top_k));
    std::iota(places.begin(), places.end(), 0);
    std::ranges::shuffle(places, c.random());
    const Both at =
        c.fill<int32_t>(DType::kI32, {rows, top_k}, [&](int64_t i) { return places[static_cast<size_t>(i)]; });
    const Both weights = values(c, DType::kF32, {rows, top_k});
    Routing host, device;
    if (parallel) {
      constexpr int64_t kExperts = 8;
      const Both experts = c.fill<int32_t>(DType::kI32, {rows, top_k},
                                           [&](int64_t i) { return (i / top_k + i % top_k * 3) % kExperts; });
      host.experts = experts.host, device.experts = experts.device;
      host.here = device.here = Shard{r, ranks}.part(kExperts);
      const Tensor& delta = sum.delta.back().host;
      for (int64_t i = 0; i < rows * top_k; ++i) {
        if (host.is_here(experts.host.as<int32_t>()[i])) continue;
        const Tensor row = delta.rows(places[static_cast<size_t>(i)], 1);
        std::memset(row.data, 0xFF, static_cast<size_t>(row.bytes()));
      }
      sum.delta.back().upload();
    }
    host.rows = at.host, device.rows = at.device;
    host.weights = weights.host, device.weights = weights.device;
    if (shared) {
      const Both output = values(c, dtype, {rows, hidden}), factor = values(c, DType::kF32, {rows});
      host.shared = output.host, device.shared = output.device;
      if (r % 2 == 0) host.shared_weights = factor.host, device.shared_weights = factor.device;
    }
    sum.host.push_back(host), sum.device.push_back(device);
  }
  return sum;
}

// The CPU's ops make the host's side.
void sum_on_cpu(const Sum& sum, DType dtype) {
  const auto size = static_cast<int>(sum.delta.size());
  const auto comm = make_host_communicators(size, std::chrono::seconds(60));
  const Status status = run_ranks(size, [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    const auto backend = make_cpu_backend(dtype, 1, comm[r]);
    backend->ops().all_reduce(sum.args(r, false));
    return comm[r]->status();
  });
  EXPECT_TRUE(status.ok()) << status.message();
}

void check_sum(Ranks& ranks, DType dtype, int64_t rows, int64_t hidden, ExchangeWay way, int64_t top_k = 0,
               bool shared = false, bool parallel = false) {
  SCOPED_TRACE(cat(ranks.size(), " ranks, ", rows, " rows of ", hidden, ", way ", static_cast<int>(way)));
  Case c(static_cast<uint64_t>(rows));
  const Sum sum = make_sum(c, ranks.size(), dtype, rows, hidden, top_k, shared, -1, parallel);
  sum_on_cpu(sum, dtype);
  ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
    e.all_reduce(sum.args(static_cast<size_t>(r), true), stream, way);
  });
  const Status status = ranks.synchronize();
  ASSERT_TRUE(status.ok()) << status.message();
  for (const Both& out : sum.out) expect_same_bits(out, "sum");
}

// The kernel that goes on with the norm has the bits of the two kernels.
void check_norm(Ranks& ranks, DType dtype, int64_t rows, int64_t hidden, bool fp8, int64_t top_k,
                bool parallel = false) {
  SCOPED_TRACE(cat(ranks.size(), " ranks, ", rows, " rows of ", hidden, ", fp8 ", fp8));
  Case c(static_cast<uint64_t>(rows));
  const Sum sum = make_sum(c, ranks.size(), dtype, rows, hidden, top_k, false, rows, parallel);
  const Both residual = values(c, dtype, {rows, hidden}), weight = c.normal(DType::kF32, {hidden});
  struct Outs {
    Both sum, residual, out, scales, out_act;
  };
  std::vector<Outs> one, two;
  for (std::vector<Outs>* outs : {&one, &two}) {
    for (int r = 0; r < ranks.size(); ++r) {
      Outs o{c.poison(dtype, {rows, hidden}), c.poison(dtype, {rows, hidden}),
             c.poison(fp8 ? DType::kE4M3 : dtype, {rows, hidden}), Both{}, c.poison(dtype, {rows, hidden})};
      std::memcpy(o.residual.host.data, residual.host.data, static_cast<size_t>(residual.host.bytes()));
      o.residual.upload();
      if (fp8) o.scales = c.poison(DType::kF32, {1, ceil_div(rows, int64_t{4}) * 4});
      outs->push_back(o);
    }
  }
  ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
    const auto at = static_cast<size_t>(r);
    const auto args_of = [&](const Outs& o) {
      AllReduceArgs first = sum.args(at, true);
      first.out = o.sum.device;
      NormArgs then{o.residual.device, o.sum.device,           weight.device, 1e-5f, {o.out.device, o.scales.device},
                    o.out_act.device,  sum.num_rows[at].device};
      return std::pair(first, then);
    };
    const auto [sum_one, norm_one] = args_of(one[at]);
    ASSERT_TRUE(e.takes_norm(sum_one, norm_one));
    e.all_reduce_norm(sum_one, norm_one, stream);
    const auto [sum_two, norm_two] = args_of(two[at]);
    e.all_reduce(sum_two, stream);
    norm(norm_two, stream);
  });
  const Status status = ranks.synchronize();
  ASSERT_TRUE(status.ok()) << status.message();
  for (size_t r = 0; r < one.size(); ++r) {
    const auto same = [&](const Both& a, const Both& b, const char* what) {
      if (!a) return;
      const Fetched expected = fetch(b.device);
      expect_same_bits(expected.tensor, a.device, what);
    };
    same(one[r].residual, two[r].residual, "residual");
    same(one[r].out, two[r].out, "normed");
    same(one[r].scales, two[r].scales, "scales");
    same(one[r].out_act, two[r].out_act, "normed, 16 bit");
  }
}

bool fits(int ranks, int64_t rows, int64_t hidden) { return rows * hidden * 2 <= Exchange::few_bytes(ranks); }

TEST(ExchangeGpu, SumsAreTheCpus) {
  for (const int size : {2, 3, 4, 8}) {
    Ranks ranks(size);
    for (const int64_t rows : {1, 2, 7, 16, 48, 128, 130, 1000, 4096}) {
      if (size == 8 && rows > 128) break;
      if (fits(size, rows, kHidden)) check_sum(ranks, DType::kBF16, rows, kHidden, ExchangeWay::kFew);
      check_sum(ranks, DType::kBF16, rows, kHidden, ExchangeWay::kMany);
    }
    check_sum(ranks, DType::kF16, 5, 4104, ExchangeWay::kFew);
    check_sum(ranks, DType::kF16, 301, 4104, ExchangeWay::kMany);
  }
}

TEST(ExchangeGpu, SumsOfExpertsAreTheCpus) {
  for (const int size : {2, 4}) {
    Ranks ranks(size);
    for (const bool shared : {false, true}) {
      const std::initializer_list<std::pair<int64_t, ExchangeWay>> cases = {
          {1, ExchangeWay::kFew}, {40, ExchangeWay::kFew}, {40, ExchangeWay::kMany}, {600, ExchangeWay::kMany}};
      for (const auto& [rows, way] : cases) {
        check_sum(ranks, DType::kBF16, rows, kHidden, way, 2, shared);
        check_sum(ranks, DType::kF16, rows, 2048, way, 8, shared);
        check_sum(ranks, DType::kBF16, rows, kHidden, way, 2, shared, true);
      }
    }
  }
}

TEST(ExchangeGpu, SumsWithTheirNormAreThoseOfTwoKernels) {
  for (const int size : {2, 3, 4}) {
    Ranks ranks(size);
    for (const bool fp8 : {false, true}) {
      for (const int64_t rows : {1, 7, 40}) {
        check_norm(ranks, DType::kBF16, rows, kHidden, fp8, 0);
        check_norm(ranks, DType::kBF16, rows, kHidden, fp8, 2, true);
      }
      check_norm(ranks, DType::kF16, 3, 576, fp8, 0);
      check_norm(ranks, DType::kBF16, 17, 8192, fp8, 4);
    }
    if (size == 2) check_norm(ranks, DType::kBF16, 250, 2048, true, 0);
  }
}

// Sizes in turns, nothing waited for between them; a call of no rows among them; rows beyond the true ones stay.
TEST(ExchangeGpu, CallsFollowEachOther) {
  for (const int size : {2, 4}) {
    Ranks ranks(size);
    Case c(7);
    std::vector<Sum> sums;
    std::vector<int64_t> true_rows;
    for (int i = 0; i < 60; ++i) {
      const int64_t rows = i % 3 == 0 ? 700 : 1 + i % 40;
      true_rows.push_back(i % 7 == 3 ? 0 : 1 + c.below(rows));
      sums.push_back(make_sum(c, size, DType::kBF16, rows, 1024, 0, false, true_rows.back()));
    }
    for (int turn = 0; turn < 3; ++turn) {
      for (const Sum& sum : sums) {
        ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
          e.all_reduce(sum.args(static_cast<size_t>(r), true), stream);
        });
      }
    }
    const Status status = ranks.synchronize();
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t i = 0; i < sums.size(); ++i) {
      const Fetched beyond = fetch(sums[i].out[0].device);
      for (int64_t b = true_rows[i] * 2048; b < std::ssize(beyond.bytes); ++b) {
        ASSERT_EQ(beyond.bytes[static_cast<size_t>(b)], 0xFF) << "call " << i;
      }
      sum_on_cpu(sums[i], DType::kBF16);
      for (const Both& out : sums[i].out) expect_same_bits(out, "sum", true_rows[i]);
    }
  }
}

// A graph a rank, replayed; its sums are in place, of what a copy brings anew.
TEST(ExchangeGpu, GraphsReplay) {
  for (const int size : {2, 4}) {
    Ranks ranks(size);
    Case c(9);
    std::vector<Sum> sums;
    for (const int64_t rows : {1, 64, 400, 2}) sums.push_back(make_sum(c, size, DType::kBF16, rows, kHidden, 0, false));
    std::vector<cudaGraphExec_t> replays(static_cast<size_t>(size));
    ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
      cudaGraph_t graph;
      HEARTH_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
      for (const Sum& sum : sums) {
        AllReduceArgs args = sum.args(static_cast<size_t>(r), true);
        HEARTH_CUDA_CHECK(cudaMemcpyAsync(args.out.data, args.delta.data, static_cast<size_t>(args.out.bytes()),
                                          cudaMemcpyDeviceToDevice, stream));
        args.delta = args.out;
        e.all_reduce(args, stream);
      }
      HEARTH_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
      HEARTH_CUDA_CHECK(cudaGraphInstantiate(&replays[static_cast<size_t>(r)], graph, 0));
      HEARTH_CUDA_CHECK(cudaGraphDestroy(graph));
    });
    for (int turn = 0; turn < 50; ++turn) {
      ranks.each([&](int r, const Exchange&, cudaStream_t stream) {
        HEARTH_CUDA_CHECK(cudaGraphLaunch(replays[static_cast<size_t>(r)], stream));
      });
    }
    const Status status = ranks.synchronize();
    ASSERT_TRUE(status.ok()) << status.message();
    for (const Sum& sum : sums) {
      sum_on_cpu(sum, DType::kBF16);
      for (const Both& out : sum.out) expect_same_bits(out, "sum");
    }
    for (cudaGraphExec_t replay : replays) cudaGraphExecDestroy(replay);
  }
}

TEST(ExchangeGpu, GathersPutPartsSideBySide) {
  for (const int size : {2, 3, 4, 8}) {
    Ranks ranks(size);
    for (const int64_t rows : {1, 3, 64, 200}) {
      for (const ExchangeWay way : {ExchangeWay::kFew, ExchangeWay::kMany}) {
        const int64_t columns = rows == 1 ? 8000 : 400;
        if (way == ExchangeWay::kFew && rows * columns * 4 > Exchange::few_bytes(size)) continue;
        SCOPED_TRACE(cat(size, " ranks, ", rows, " rows, way ", static_cast<int>(way)));
        Case c(static_cast<uint64_t>(rows));
        std::vector<Both> parts, outs;
        for (int r = 0; r < size; ++r) {
          parts.push_back(values(c, DType::kF32, {rows, columns}));
          outs.push_back(c.poison(DType::kF32, {rows, columns * size}));
        }
        for (int64_t i = 0; i < rows * columns * size; ++i) {
          const int64_t row = i / (columns * size), column = i % (columns * size);
          const float value =
              element(parts[static_cast<size_t>(column / columns)].host, row * columns + column % columns);
          for (Both& out : outs) set_element(out.host, i, value);
        }
        ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
          const auto at = static_cast<size_t>(r);
          e.all_gather({parts[at].device, outs[at].device}, stream, way);
        });
        const Status status = ranks.synchronize();
        ASSERT_TRUE(status.ok()) << status.message();
        for (const Both& out : outs) expect_same_bits(out, "gathered");
      }
    }
  }
}

double seconds_of(const std::function<void()>& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(ExchangeGpu, ALostRankEndsWithinTheLimit) {
  for (const ExchangeWay way : {ExchangeWay::kFew, ExchangeWay::kMany}) {
    Ranks ranks(3, std::chrono::milliseconds(200));
    Case c(3);
    const Sum sum = make_sum(c, 3, DType::kBF16, 16, kHidden, 0, false);
    const auto call = [&](int but) {
      ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
        if (r != but) e.all_reduce(sum.args(static_cast<size_t>(r), true), stream, way);
      });
      return ranks.synchronize();
    };
    ASSERT_TRUE(call(-1).ok());
    Status status;
    const double took = seconds_of([&] { (void)(status = call(1)); });
    EXPECT_GT(took, 0.15);
    EXPECT_LT(took, 1.0);
    EXPECT_NE(status.message().find("rank 1 of 3 did not come to the others within 0.2 s"), std::string::npos)
        << status.message();
    // It is final, and nobody waits again.
    EXPECT_LT(seconds_of([&] { (void)(status = call(1)); }), 0.1);
    EXPECT_FALSE(status.ok());
  }
}

TEST(ExchangeGpu, AFailedRankEndsTheOthersWaits) {
  Ranks ranks(2, std::chrono::seconds(30));
  Case c(3);
  const Sum sum = make_sum(c, 2, DType::kBF16, 16, kHidden, 0, false);
  ranks.each([&](int r, const Exchange& e, cudaStream_t stream) {
    if (r == 0) e.all_reduce(sum.args(0, true), stream);
  });
  ranks.exchange(1).fail();
  Status status;
  EXPECT_LT(seconds_of([&] { (void)(status = ranks.synchronize()); }), 2.0);
  EXPECT_NE(status.message().find("rank 1 of 2 failed"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace hearth::cuda
