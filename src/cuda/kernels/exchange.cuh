// What the ranks of a model send each other, each into the memory of the others (NVLink, or the same GPU), with plain
// stores and no barrier of all.
//
// Few rows: a vector of 16 bytes travels as two stores of {data, call, data, call}. Whoever waits for it reads until
// all four marks are this call's; no flag follows, nothing is flushed. A receiver has two sets of slots in turns. The
// set of call e is free when it is written: its reader read it in call e - 2, and the writer has heard from that
// reader in call e - 1, which began after call e - 2 had ended. (After Hu et al. 2025, "Demystifying NCCL": LL.)
//
// Many rows: a block shares out its piece of the rows. It sends each rank that rank's share and a flag, sums its own
// share, sends the sum to all and a second flag, and stores what comes back. One set of slots does: whoever gets the
// first flag of round e knows that the sender has read what it got in round e - 1, and likewise the second.
//
// Sums are in f32, in the order of ranks, rounded once: the same bits by either way. A call of no rows does nothing on
// any rank, and does not count.
//
// A wait ends at a limit, or when the group has failed. Then this call and all later ones run through with whatever
// there is, and the host reads why in the group's failure word.
#pragma once

#include "cuda/hopper/cluster.cuh"
#include "cuda/kernels/true_rows.cuh"
#include "cuda/kernels/vector.cuh"

namespace hearth::cuda {

constexpr int kMostExchangeRanks = 8;
constexpr int kExchangeBlocks = 128, kExchangeThreads = 256;  // of few rows
constexpr int kShareBlocks = 64, kShareThreads = 512;         // of many
constexpr int kPieceVectors = 4096;                           // of many rows, of a block and round

// Why a group failed: a rank and one of these.
constexpr uint32_t kRankLate = 1u << 8, kRankFailed = 2u << 8;

// What a rank receives in.
struct ExchangeMemory {
  uint4* slots;     // [2][ranks][capacity][2]
  uint4* shares;    // [kShareBlocks][ranks][kPieceVectors / ranks]
  uint4* sums;      // as shares
  uint32_t* flags;  // [2][kShareBlocks][ranks]
};

struct ExchangeParams {
  ExchangeMemory of[kMostExchangeRanks];
  uint32_t* calls;    // [kExchangeBlocks]: how many calls of few rows each block has seen
  uint32_t* rounds;   // [kShareBlocks]
  uint32_t* lost;     // this rank's: 1 when a wait has ended without its rank
  uint32_t* failure;  // the group's, in host memory
  uint64_t limit_ns;
  int64_t capacity;  // vectors
  int rank, size;
};

// Memory that another rank writes, or reads, meanwhile.
__device__ __forceinline__ uint4 load_volatile(const uint4* p) {
  uint4 v;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}
__device__ __forceinline__ void store_volatile(uint4* p, const uint4& v) {
  asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}
__device__ __forceinline__ uint32_t load_volatile(const uint32_t* p) {
  return *static_cast<const volatile uint32_t*>(p);
}
__device__ __forceinline__ uint32_t load_acquire(const uint32_t* p) {
  uint32_t v;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void store_release(uint32_t* p, uint32_t v) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ uint64_t time_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

// A thread's waits in one call.
class ExchangeWait {
 public:
  __device__ explicit ExchangeWait(const ExchangeParams& p) : p_(p), lost_(load_volatile(p.lost) != 0) {}

  // Calls `arrived` until it returns the number of ranks, or the wait is over: then it has returned who is late.
  template <typename Arrived>
  __device__ void until(Arrived&& arrived) {
    constexpr uint32_t kLook = 256, kLookFar = 4096;  // the group's word is behind PCIe
    for (uint32_t turn = 1;; ++turn) {
      const int late = arrived();
      if (late == p_.size || lost_) return;
      if (turn % kLook != 0) continue;
      if (load_volatile(p_.lost) != 0 || (turn % kLookFar == 0 && load_volatile(p_.failure) != 0)) {
        lost_ = true;
      } else if (const uint64_t now = time_ns(); end_ == 0) {
        end_ = now + p_.limit_ns;
      } else if (now > end_) {
        lost_ = true;
        if (load_volatile(p_.failure) == 0) *static_cast<volatile uint32_t*>(p_.failure) = kRankLate | late;
      }
      if (lost_) *static_cast<volatile uint32_t*>(p_.lost) = 1;
    }
  }

 private:
  const ExchangeParams& p_;
  uint64_t end_ = 0;
  bool lost_;
};

// Vectors of few rows, of one call.
class FewVectors {
 public:
  __device__ FewVectors(const ExchangeParams& p, uint32_t call)
      : p_(p), call_(call), set_((call & 1) * p.size * p.capacity), wait_(p) {}

  __device__ void send(int64_t i, const uint4& bits) const {
    const int64_t at = 2 * (set_ + p_.rank * p_.capacity + i);
    for (int step = 1; step < p_.size; ++step) {  // each begins with another one
      uint4* slot = p_.of[(p_.rank + step) % p_.size].slots + at;
      store_volatile(slot, {bits.x, call_, bits.y, call_});
      store_volatile(slot + 1, {bits.z, call_, bits.w, call_});
    }
  }
  // What each rank sent; its own place stays as it is.
  template <int kMost>
  __device__ void receive(int64_t i, uint4 (&from)[kMost]) {
    const uint4* slots = p_.of[p_.rank].slots + 2 * (set_ + i);
    wait_.until([&] {
      uint4 low[kMost], high[kMost];
#pragma unroll
      for (int r = 0; r < kMost; ++r) {
        if (r >= p_.size || r == p_.rank) continue;
        low[r] = load_volatile(slots + 2 * r * p_.capacity);
        high[r] = load_volatile(slots + 2 * r * p_.capacity + 1);
      }
      int late = p_.size;
#pragma unroll
      for (int r = kMost - 1; r >= 0; --r) {
        if (r >= p_.size || r == p_.rank) continue;
        from[r] = {low[r].x, low[r].z, high[r].x, high[r].z};
        if (low[r].y != call_ || low[r].w != call_ || high[r].y != call_ || high[r].w != call_) late = r;
      }
      return late;
    });
  }

 private:
  const ExchangeParams& p_;
  const uint32_t call_;
  const int64_t set_;
  ExchangeWait wait_;
};

// A block's number of this call. The marks 0 and 1 are never those of a call: 0 is in memory that nobody wrote.
__device__ __forceinline__ uint32_t begin_call(const ExchangeParams& p) {
  const uint32_t before = __ldcg(p.calls + blockIdx.x), call = before + 1 == 0 ? 2 : before + 1;
  __syncthreads();
  if (threadIdx.x == 0) p.calls[blockIdx.x] = call;
  return call;
}

// A block's rounds of many rows. Every thread calls every function.
template <typename Vector = uint4>
class Rounds {
 public:
  __device__ explicit Rounds(const ExchangeParams& p)
      : p_(p), round_(__ldcg(p.rounds + blockIdx.x)), each_(kPieceVectors / p.size), wait_(p) {}
  // Of a piece, a rank's share: at most kPieceVectors / ranks.
  __device__ uint4* share(int of_rank, int from) const { return at(p_.of[of_rank].shares, from); }
  __device__ uint4* sum(int of_rank, int from) const { return at(p_.of[of_rank].sums, from); }
  __device__ void begin() { ++round_; }
  // Sends all a flag behind what this block wrote, and waits for theirs. `which`: 0, then 1.
  __device__ void meet(int which) {
    __syncthreads();
    const int other = static_cast<int>(threadIdx.x);
    if (other < p_.size && other != p_.rank) {
      const int64_t place = (static_cast<int64_t>(which) * kShareBlocks + blockIdx.x) * p_.size;
      store_release(p_.of[other].flags + place + p_.rank, round_);
      wait_.until([&] { return load_acquire(p_.of[p_.rank].flags + place + other) == round_ ? p_.size : other; });
    }
    __syncthreads();
  }
  __device__ void end() const {
    if (threadIdx.x == 0) p_.rounds[blockIdx.x] = round_;
  }

 private:
  __device__ uint4* at(uint4* memory, int from) const {
    return memory + (static_cast<int64_t>(blockIdx.x) * p_.size + from) * each_;
  }
  const ExchangeParams& p_;
  uint32_t round_;
  const int each_;
  ExchangeWait wait_;
};

template <typename T>
struct AllReduceParams {
  const T* delta;          // [rows, hidden], or the experts' rows
  const int32_t* experts;  // [rows, top_k], or null: all are here
  int32_t first_here, end_here;
  const int32_t* expert_rows;   // [rows, top_k]
  const float* expert_weights;  // [rows, top_k]
  const T* shared;              // [rows, hidden], or null
  const float* shared_weights;  // [rows], or null: each is 1
  int top_k;                    // 0: delta as it is
  T* out;
  const int32_t* num_rows;
  int64_t rows;
  int vectors;  // of a row
};

// Vector i of what this rank would add to its residual stream, rounded as it would be in memory.
template <typename T, bool kExperts>
__device__ __forceinline__ uint4 own_vector(const AllReduceParams<T>& p, int64_t i) {
  if constexpr (!kExperts) return load16(p.delta + i * kVector);
  const int64_t row = i / p.vectors, column = (i - row * p.vectors) * kVector, hidden = int64_t{p.vectors} * kVector;
  float sum[8] = {};
  const auto add = [&](const T* from, float weight) {
    float v[8];
    load8(from + column, v);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] = fmaf(weight, v[j], sum[j]);
  };
  for (int k = 0; k < p.top_k; ++k) {
    if (p.experts) {
      const int32_t expert = p.experts[row * p.top_k + k];
      if (expert < p.first_here || expert >= p.end_here) continue;
    }
    add(p.delta + p.expert_rows[row * p.top_k + k] * hidden, p.expert_weights[row * p.top_k + k]);
  }
  if (p.shared) add(p.shared + row * hidden, p.shared_weights ? p.shared_weights[row] : 1.0f);
  return pack8<T>(sum);
}

template <typename T>
__device__ __forceinline__ void add_vector(const uint4& bits, float (&sum)[8]) {
  float v[8];
  unpack8<T>(bits, v);
#pragma unroll
  for (int j = 0; j < 8; ++j) sum[j] += v[j];
}

// A thread sends all of its vectors before it waits for the first. Its own lie in `out` meanwhile.
template <typename T, bool kExperts, int kMost>
__global__ __launch_bounds__(kExchangeThreads) void all_reduce_few_kernel(const AllReduceParams<T> p,
                                                                          const __grid_constant__ ExchangeParams x) {
  const int64_t count = true_rows(p.num_rows, p.rows) * p.vectors;
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (count == 0) return;
  FewVectors vectors(x, begin_call(x));
  constexpr int64_t kStep = int64_t{kExchangeBlocks} * kExchangeThreads;
  const int64_t first = int64_t{blockIdx.x} * kExchangeThreads + threadIdx.x;
  for (int64_t i = first; i < count; i += kStep) {
    const uint4 own = own_vector<T, kExperts>(p, i);
    vectors.send(i, own);
    if (kExperts || p.out != p.delta) store16(p.out + i * kVector, own);
  }
  for (int64_t i = first; i < count; i += kStep) {
    uint4 from[kMost];
    vectors.receive<kMost>(i, from);
    const uint4 own = load16(p.out + i * kVector);
    float sum[8] = {};
#pragma unroll
    for (int r = 0; r < kMost; ++r) {
      if (r < x.size) add_vector<T>(r == x.rank ? own : from[r], sum);
    }
    store16(p.out + i * kVector, pack8<T>(sum));
  }
}

template <typename T, bool kExperts>
__global__ __launch_bounds__(kShareThreads) void all_reduce_many_kernel(const AllReduceParams<T> p,
                                                                        const __grid_constant__ ExchangeParams x) {
  const int64_t count = true_rows(p.num_rows, p.rows) * p.vectors;
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (count == 0) return;
  Rounds rounds(x);
  // As even as it goes, of whole lines of 128 bytes.
  const int64_t even = ceil_div(ceil_div(count, int64_t{x.size} * kShareBlocks), int64_t{8}) * 8;
  const int share = static_cast<int>(min(even, int64_t{kPieceVectors / x.size})), piece = share * x.size;
  for (int64_t base = int64_t{blockIdx.x} * piece; base < count; base += int64_t{kShareBlocks} * piece) {
    const auto here = static_cast<int>(min(int64_t{piece}, count - base));
    rounds.begin();
    for (int j = threadIdx.x; j < here; j += kShareThreads) {
      const int to = j / share;
      const uint4 own = own_vector<T, kExperts>(p, base + j);
      if (to != x.rank) {
        store16(rounds.share(to, x.rank) + (j - to * share), own);
      } else if (kExperts || p.out != p.delta) {
        store16(p.out + (base + j) * kVector, own);
      }
    }
    rounds.meet(0);
    const int mine = x.rank * share;
    for (int j = threadIdx.x; j < share && mine + j < here; j += kShareThreads) {
      T* const at = p.out + (base + mine + j) * kVector;
      float sum[8] = {};
      for (int r = 0; r < x.size; ++r) {
        add_vector<T>(r == x.rank ? load16(at) : __ldcg(rounds.share(x.rank, r) + j), sum);
      }
      const uint4 bits = pack8<T>(sum);
      store16(at, bits);
      for (int step = 1; step < x.size; ++step) store16(rounds.sum((x.rank + step) % x.size, x.rank) + j, bits);
    }
    rounds.meet(1);
    for (int j = threadIdx.x; j < here; j += kShareThreads) {
      const int from = j / share;
      if (from == x.rank) continue;
      store16(p.out + (base + j) * kVector, __ldcg(rounds.sum(x.rank, from) + (j - from * share)));
    }
  }
  rounds.end();
}

struct AllGatherParams {
  const float* part;  // [rows, columns of a rank]
  float* out;         // [rows, columns]
  const int32_t* num_rows;
  int64_t rows;
  int vectors;  // of 4 columns, of a rank's row
};

// Where vector i of a rank's part goes.
__device__ __forceinline__ float* gathered(const AllGatherParams& p, const ExchangeParams& x, int from, int64_t i) {
  const int64_t row = i / p.vectors, column = i - row * p.vectors;
  return p.out + ((row * x.size + from) * p.vectors + column) * 4;
}

template <int kMost>
__global__ __launch_bounds__(kExchangeThreads) void all_gather_few_kernel(const AllGatherParams p,
                                                                          const __grid_constant__ ExchangeParams x) {
  const int64_t count = true_rows(p.num_rows, p.rows) * p.vectors;
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (count == 0) return;
  FewVectors vectors(x, begin_call(x));
  constexpr int64_t kStep = int64_t{kExchangeBlocks} * kExchangeThreads;
  const int64_t first = int64_t{blockIdx.x} * kExchangeThreads + threadIdx.x;
  for (int64_t i = first; i < count; i += kStep) {
    const uint4 own = load16(p.part + i * 4);
    vectors.send(i, own);
    store16(gathered(p, x, x.rank, i), own);
  }
  for (int64_t i = first; i < count; i += kStep) {
    uint4 from[kMost];
    vectors.receive<kMost>(i, from);
#pragma unroll
    for (int r = 0; r < kMost; ++r) {
      if (r < x.size && r != x.rank) store16(gathered(p, x, r, i), from[r]);
    }
  }
}

// As the second half of the large sum: its first flag says that the slots are free.
__global__ __launch_bounds__(kShareThreads) inline void all_gather_many_kernel(
    const AllGatherParams p, const __grid_constant__ ExchangeParams x) {
  const int64_t count = true_rows(p.num_rows, p.rows) * p.vectors;
  hopper::wait_for_previous_kernel();
  hopper::start_next_kernel();
  if (count == 0) return;
  Rounds rounds(x);
  const int piece = kPieceVectors / x.size;
  for (int64_t base = int64_t{blockIdx.x} * piece; base < count; base += int64_t{kShareBlocks} * piece) {
    const auto here = static_cast<int>(min(int64_t{piece}, count - base));
    rounds.begin();
    rounds.meet(0);
    for (int j = threadIdx.x; j < here; j += kShareThreads) {
      const uint4 own = load16(p.part + (base + j) * 4);
      for (int step = 1; step < x.size; ++step) store16(rounds.sum((x.rank + step) % x.size, x.rank) + j, own);
      store16(gathered(p, x, x.rank, base + j), own);
    }
    rounds.meet(1);
    for (int r = 0; r < x.size; ++r) {
      if (r == x.rank) continue;
      for (int j = threadIdx.x; j < here; j += kShareThreads) {
        store16(gathered(p, x, r, base + j), __ldcg(rounds.sum(x.rank, r) + j));
      }
    }
  }
  rounds.end();
}

}  // namespace hearth::cuda
