// Which kernels an op issues, what they read ahead and what they write, as the kernels have it.
#include "cuda/launch_order.h"

namespace hearth::cuda {
namespace {

constexpr auto kLate = KernelLaunch::StartsNext::kLate, kEarly = KernelLaunch::StartsNext::kEarly;

// Where the groups' rows lie is read ahead: of a dense layer, how many rows the step has.
KernelLaunch product(const char* name, const Tensor& starts, const Tensor& ends, const Activation& out) {
  return {name, kLate, {starts, ends}, {out.data, out.scales}};
}
KernelLaunch dense(const char* name, const Tensor& num_rows, const Activation& out) {
  return product(name, {}, num_rows, out);
}
KernelLaunch quantize(const Tensor& num_rows, const Activation& out) {
  return {"quantize", kEarly, {num_rows}, {out.data, out.scales}};
}
Activation first_of(const Scratch::Product& between) { return between.act ? Activation{between.act, {}} : between.out; }

}  // namespace

KernelLaunches launches_of(const EmbedArgs& args) { return {{"embed", kLate, {}, {args.out}}}; }

KernelLaunches launches_of(const NormArgs& args) {
  KernelLaunch norm{"norm", kEarly, {args.num_rows, args.tokens}, {args.sums(), args.out.data, args.out.scales}};
  norm.writes.push_back(args.out_act);
  if (args.routing != nullptr && args.delta) {
    norm.reads_early.push_back(args.routing->rows);
    norm.reads_early.push_back(args.routing->weights);
    norm.reads_early.push_back(args.routing->shared_weights);
  }
  return {norm};
}

KernelLaunches launches_of(const LinearArgs& args) { return {dense("product", args.num_rows, {args.out, {}})}; }

KernelLaunches launches_of(const MlpArgs& args, const Scratch::Product& between) {
  KernelLaunches out = {dense("product of gate and up", args.num_rows, first_of(between))};
  if (between.act) out.push_back(quantize(args.num_rows, between.out));
  out.push_back(dense("product of down", args.num_rows, {args.out, {}}));
  return out;
}

KernelLaunches launches_of(const RopeAppendKvArgs& args) {
  const KvCacheLayer& to = args.cache;
  return {{"rope_append_kv",
           kEarly,
           {args.num_rows, args.positions, args.slots},
           {args.qkv, to.k, to.v, to.k_scales, to.v_scales}}};
}

// Two kernels where experts are many; the second reads no more ahead than the first does.
KernelLaunches launches_of(const RouteArgs& args) {
  const Routing& to = args.out;
  KernelLaunches out;
  if (args.shared_gate) out.push_back({"shared gate", kEarly, {args.num_rows}, {to.shared_weights}});
  out.push_back({"route", kEarly, {args.num_rows}, {to.experts, to.weights, to.rows, to.starts, to.ends}});
  return out;
}

// A product of more experts than a launch takes is several kernels, which read the same ahead.
KernelLaunches launches_of(const ExpertsArgs& args, const Activation& gathered, const Scratch::Product& between) {
  const Routing& routing = *args.routing;
  const auto experts = [&](const char* name, const Activation& out) {
    return product(name, routing.starts, routing.ends, out);
  };
  KernelLaunches out = {{"dispatch", kLate, {args.num_rows}, {gathered.data, gathered.scales}}};
  out.push_back(experts("experts' product of gate and up", first_of(between)));
  if (between.act) out.push_back(quantize(args.num_rows, between.out));
  out.push_back(experts("experts' product of down", {args.out, {}}));
  return out;
}

KernelLaunches launches_of(const AllReduceArgs& sum, const NormArgs& args) {
  return {{"all_reduce with norm",
           kLate,
           {sum.num_rows},
           {sum.out, args.sums(), args.out.data, args.out.scales, args.out_act}}};
}

KernelLaunches launches_of(const SampleArgs& args) {
  return {{"sample", kLate, {args.sizes}, {args.tokens, args.logprobs, args.ranks, args.top_tokens}}};
}

// What the ranks write into each other's memory has marks of its own.
KernelLaunches launches_of(const AllReduceArgs& args) { return {{"all_reduce", kLate, {args.num_rows}, {args.out}}}; }

KernelLaunches launches_of(const AllGatherArgs& args) { return {{"all_gather", kLate, {args.num_rows}, {args.out}}}; }

KernelLaunches plan_launches(const std::vector<Region>& plans) { return {{"attention plan", kLate, {}, plans}}; }

KernelLaunches launches_of(const AttentionArgs& args, const AttentionStep& step) {
  const Activation to = step.unquantized ? Activation{step.unquantized, {}} : args.out;
  KernelLaunches out;
  std::vector<Region> ahead;
  if (step.planned_before) ahead.push_back(step.plan);
  // Its counter of items is in the plan.
  KernelLaunch generated{"attention of generated tokens", kLate, ahead, {to.data, step.plan}};
  if (step.prompt) {
    if (step.widens) out.push_back({"widen_kv", kEarly, ahead, {}});
    out.push_back({"attention of prompts", kLate, {}, {to.data}});
    // Beside the prompts' it waits at its end alone, so all that it reads it reads ahead.
    generated.starts_next = kEarly;
    generated.reads_early = {step.plan, args.qkv, args.cache.k, args.cache.v, args.cache.k_scales, args.cache.v_scales};
  }
  out.push_back(generated);
  if (step.unquantized) out.push_back(quantize(args.batch->true_tokens(), args.out));
  return out;
}

Status LaunchOrder::issue(const KernelLaunches& launches) {
  for (const KernelLaunch& launch : launches) {
    for (const KernelLaunch& before : running_) {
      for (const Region& read : launch.reads_early) {
        for (const Region& written : before.writes) {
          if (!read.overlaps(written)) continue;
          return internal_error(launch.kernel, " reads ahead what ", before.kernel,
                                " writes, and no late kernel stands between (kernels/true_rows.cuh)");
        }
      }
    }
    if (launch.starts_next == kLate) running_.clear();
    running_.push_back(launch);
  }
  return {};
}

}  // namespace hearth::cuda
