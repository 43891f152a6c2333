// The rule of kernels/true_rows.cuh as the host can check it: what a kernel may read ahead of its wait. Each op says
// which kernels it issues; a debug build checks every op of a step against those before it. No CUDA in here, so that
// the order of every model's ops is tested without a GPU.
#pragma once

#include <span>
#include <vector>

#include "ops/ops.h"
#include "ops/scratch.h"

namespace hearth::cuda {

#ifdef NDEBUG
constexpr bool kChecksLaunchOrder = false;
#else
constexpr bool kChecksLaunchOrder = true;
#endif

// Memory, by where it lies.
struct Region {
  const char *begin = nullptr, *end = nullptr;
  Region() = default;
  Region(const Tensor& t) : begin(static_cast<const char*>(t.data)), end(t ? begin + t.bytes() : begin) {}
  bool overlaps(const Region& other) const { return begin < other.end && other.begin < end; }
};

struct KernelLaunch {
  const char* kernel = "";
  // When the next kernel may start: behind this one's own wait, so that all kernels before it have ended, or earlier.
  enum class StartsNext { kLate, kEarly } starts_next = StartsNext::kLate;
  std::vector<Region> reads_early, writes;
};
using KernelLaunches = std::vector<KernelLaunch>;

// The kernels of each op, in order. `between`: what the two products hand over; `gathered`: what dispatch writes.
KernelLaunches launches_of(const EmbedArgs& args);
KernelLaunches launches_of(const NormArgs& args);
KernelLaunches launches_of(const LinearArgs& args);
KernelLaunches launches_of(const MlpArgs& args, const Scratch::Product& between);
KernelLaunches launches_of(const RopeAppendKvArgs& args);
KernelLaunches launches_of(const RouteArgs& args);
KernelLaunches launches_of(const ExpertsArgs& args, const Activation& gathered, const Scratch::Product& between);
KernelLaunches launches_of(const AllReduceArgs& sum, const NormArgs& args);  // in one kernel
KernelLaunches launches_of(const SampleArgs& args);
KernelLaunches launches_of(const AllReduceArgs& args);
KernelLaunches launches_of(const AllGatherArgs& args);
// Attention is planned at a step's begin; `plan` is where.
KernelLaunches plan_launches(const std::vector<Region>& plans);
struct AttentionStep {
  Region plan;
  bool prompt = false;          // the step may have prompt tokens, beside generated ones
  bool widens = false;          // an e4m3 cache's pages for them
  bool planned_before = false;  // attention ran on this plan already
  Tensor unquantized;           // where the result waits to be quantized; empty: it does not
};
KernelLaunches launches_of(const AttentionArgs& args, const AttentionStep& step);

// The kernels of a step so far.
class LaunchOrder {
 public:
  // What the step reads was copied before, and the step before has ended.
  void begin_step() { running_.clear(); }
  // An error of ours where a kernel reads ahead what a kernel that may still run writes; names both.
  Status issue(const KernelLaunches& launches);

 private:
  KernelLaunches running_;  // from the last late kernel on: those that may still run when the next one begins
};

}  // namespace hearth::cuda
