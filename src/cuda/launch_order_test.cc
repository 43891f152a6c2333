#include "cuda/launch_order.h"

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <map>
#include <thread>

#include "comm/communicator.h"
#include "cpu/cpu_backend.h"
#include "engine/forwarding_backend.h"
#include "engine/model_runner.h"
#include "models/registry.h"

namespace hearth::cuda {
namespace {

constexpr auto kLate = KernelLaunch::StartsNext::kLate, kEarly = KernelLaunch::StartsNext::kEarly;

// Memory by number, none of it behind it.
Tensor at(int64_t number) { return {reinterpret_cast<void*>(number << 20), DType::kU8, {64}}; }

std::string refusal(const KernelLaunches& launches) {
  LaunchOrder order;
  return order.issue(launches).message();
}

// The example in kernels/true_rows.cuh.
TEST(LaunchOrder, ALateKernelMustStandBetween) {
  const KernelLaunch p1{"P1", kLate, {}, {at(1)}}, n{"N", kEarly, {}, {at(2)}}, r{"R", kEarly, {}, {at(3)}};
  const auto then = [&](KernelLaunch d, KernelLaunch p2) {
    return refusal({{"before", kEarly, {}, {at(9)}}, p1, n, r, std::move(d), std::move(p2)});
  };
  const KernelLaunch d{"D", kLate, {}, {at(4)}};
  EXPECT_EQ(then({"D", kLate, {at(9)}, {}}, {}), "");
  EXPECT_EQ(then(d, {"P2", kLate, {at(1), at(2), at(3), at(9)}, {}}), "");
  for (const int64_t i : {1, 2, 3}) {
    EXPECT_NE(then({"D", kLate, {at(i)}, {}}, {}).find("D reads ahead what "), std::string::npos) << i;
  }
  EXPECT_EQ(then(d, {"P2", kLate, {at(4)}, {}}),
            "P2 reads ahead what D writes, and no late kernel stands between (kernels/true_rows.cuh)");
  // An early kernel in its place parts nothing; and parts of memory count.
  EXPECT_NE(then({"D", kEarly, {}, {}}, {"P2", kLate, {at(3)}, {}}), "");
  Tensor part = at(2);
  part.data = static_cast<char*>(part.data) + 63;
  EXPECT_NE(then({"D", kEarly, {}, {}}, {"P2", kLate, {part}, {}}), "");
  part.data = static_cast<char*>(part.data) + 1;
  EXPECT_EQ(then({"D", kEarly, {}, {}}, {"P2", kLate, {part}, {}}), "");
}

TEST(LaunchOrder, AStepBeginsAnew) {
  LaunchOrder order;
  EXPECT_TRUE(order.issue({{"norm", kEarly, {}, {at(1)}}}).ok());
  order.begin_step();
  EXPECT_TRUE(order.issue({{"product", kLate, {at(1)}, {}}}).ok());
}

TEST(LaunchOrder, OpsThatMayNotFollowEachOther) {
  Routing routing{.experts = at(1), .weights = at(2), .rows = at(3), .starts = at(4), .ends = at(5)};
  const RouteArgs route{.x = at(10), .gate = at(11), .num_rows = at(12), .scoring = {}, .out = routing};
  const ExpertsArgs experts{.x = at(10), .num_rows = at(12), .routing = &routing, .weights = nullptr, .out = at(13)};
  NormArgs norm{
      .residual = at(14), .delta = at(13), .weight = at(15), .epsilon = 0, .out = {at(16), {}}, .out_act = {}};
  norm.routing = &routing;
  const auto all = [](std::initializer_list<KernelLaunches> ops) {
    KernelLaunches out;
    for (const KernelLaunches& op : ops) out.insert(out.end(), op.begin(), op.end());
    return out;
  };
  const Scratch::Product plain{{at(20), {}}, {}}, quantized{{at(20), at(21)}, at(22)};
  for (const Scratch::Product& between : {plain, quantized}) {
    EXPECT_EQ(refusal(all({launches_of(route), launches_of(experts, {at(23), {}}, between), launches_of(norm)})), "");
  }
  EXPECT_NE(refusal(all({launches_of(route), launches_of(norm)})).find("norm reads ahead what route writes"),
            std::string::npos);
  // A shared expert's weights, too.
  RouteArgs gated = route;
  gated.shared_gate = at(17);
  gated.out.shared_weights = routing.shared_weights = at(6);
  EXPECT_EQ(refusal(all({launches_of(gated), launches_of(experts, {at(23), {}}, plain), launches_of(norm)})), "");
  routing.rows = routing.weights = {};
  EXPECT_NE(refusal(all({launches_of(gated), launches_of(norm)})).find("norm reads ahead what shared gate writes"),
            std::string::npos);
  routing.rows = at(3), routing.weights = at(2);
  // Were dispatch early, as quantize is, the experts' products would read what route still writes.
  KernelLaunches early = launches_of(experts, {at(23), {}}, plain);
  early[0].starts_next = kEarly;
  EXPECT_NE(refusal(all({launches_of(route), early})).find("reads ahead what route writes"), std::string::npos);
  // A step's inputs are read ahead: whoever writes them in a step is found.
  const LinearArgs writes_positions{.in = {at(10), {}}, .weight = nullptr, .out = at(30)};
  RopeAppendKvArgs rope{};
  rope.qkv = at(31), rope.positions = at(30), rope.slots = at(32);
  EXPECT_NE(refusal(all({launches_of(writes_positions), launches_of(rope)})), "");

  Batch batch;
  const auto attention = [&](const AttentionStep& step) {
    AttentionArgs args{};
    args.qkv = at(31), args.batch = &batch, args.out = {at(33), {}};
    return launches_of(args, step);
  };
  AttentionStep step{.plan = at(40), .planned_before = true};
  EXPECT_NE(refusal(all({plan_launches({at(40)}), attention(step)})).find("what attention plan writes"),
            std::string::npos);
  step.planned_before = false;
  EXPECT_EQ(refusal(all({plan_launches({at(40)}), launches_of(rope), attention(step)})), "");
  // Of prompts and generated tokens the second kernel reads the cache ahead, and may: the first is late.
  step.prompt = true;
  EXPECT_EQ(refusal(all({launches_of(writes_positions), attention(step)})), "");
  // Behind the two, what reads ahead what they write waits for a product.
  const KernelLaunch reader{"reader", kLate, {at(33)}, {}};
  EXPECT_NE(refusal(all({attention(step), {reader}})), "");
  EXPECT_EQ(refusal(all({attention(step), {{"product", kLate, {}, {}}}, {reader}})), "");
}

// A model's ops on the CPU, each checked as CudaOps would issue it.
class OrderedOps final : public Ops {
 public:
  explicit OrderedOps(Ops& inner) : inner_(inner) {}

  void begin(const BeginArgs& args) override {
    order_.begin_step();
    ran_.clear();
    std::vector<Region> plans;
    for (const AttentionShape& shape : args.attention) plans.push_back(plan_of(shape));
    check(plan_launches(plans));
    inner_.begin(args);
  }
  void embed(const EmbedArgs& args) override { checked(args, launches_of(args), &Ops::embed); }
  void norm(const NormArgs& args) override { checked(args, launches_of(args), &Ops::norm); }
  void linear(const LinearArgs& args) override { checked(args, launches_of(args), &Ops::linear); }
  void rope_append_kv(const RopeAppendKvArgs& args) override { checked(args, launches_of(args), &Ops::rope_append_kv); }
  void route(const RouteArgs& args) override { checked(args, launches_of(args), &Ops::route); }
  void sample(const SampleArgs& args) override { checked(args, launches_of(args), &Ops::sample); }
  void all_reduce(const AllReduceArgs& args) override { checked(args, launches_of(args), &Ops::all_reduce); }
  void all_gather(const AllGatherArgs& args) override { checked(args, launches_of(args), &Ops::all_gather); }
  // In one kernel, or in two.
  void all_reduce_norm(const AllReduceArgs& sum, const NormArgs& args) override {
    LaunchOrder saved = order_;
    check(launches_of(sum, args));
    order_ = saved;
    Ops::all_reduce_norm(sum, args);
  }
  void mlp(const MlpArgs& args) override {
    for (const bool quantizes : {false, true}) {
      LaunchOrder saved = order_;
      check(launches_of(args, between(quantizes)));
      if (!quantizes) order_ = saved;
    }
    inner_.mlp(args);
  }
  void experts(const ExpertsArgs& args) override {
    for (const bool quantizes : {false, true}) {
      LaunchOrder saved = order_;
      check(launches_of(args, {at(1), at(2)}, between(quantizes)));
      if (!quantizes) order_ = saved;
    }
    inner_.experts(args);
  }
  void attention(const AttentionArgs& args) override {
    const bool planned_before = std::exchange(ran_[plan_of(args.shape).data], true);
    AttentionStep step{.plan = plan_of(args.shape), .planned_before = planned_before};
    step.widens = args.shape.kv == DType::kE4M3;
    step.unquantized = args.out.scales ? at(7) : Tensor{};
    // Steps of generated tokens alone, and with prompts.
    LaunchOrder saved = order_;
    check(launches_of(args, step));
    if (args.batch->may_have_prompt) {
      order_ = saved;
      step.prompt = true;
      check(launches_of(args, step));
    }
    inner_.attention(args);
  }

  int64_t checks = 0;
  std::string wrong;

 private:
  static Scratch::Product between(bool quantizes) {
    return {{at(3), quantizes ? at(4) : Tensor{}}, quantizes ? at(5) : Tensor{}};
  }
  Tensor plan_of(const AttentionShape& shape) {
    const auto found = std::ranges::find(shapes_, shape);
    const int64_t index = found - shapes_.begin();
    if (found == shapes_.end()) shapes_.push_back(shape);
    return at(100 + index);
  }
  template <typename Args>
  void checked(const Args& args, const KernelLaunches& launches, void (Ops::*op)(const Args&)) {
    check(launches);
    (inner_.*op)(args);
  }
  void check(const KernelLaunches& launches) {
    ++checks;
    const Status status = order_.issue(launches);
    if (!status.ok() && wrong.empty()) wrong = status.message();
  }

  Ops& inner_;
  LaunchOrder order_;
  std::deque<AttentionShape> shapes_;
  std::map<const void*, bool> ran_;
};

class OrderedBackend final : public ForwardingBackend {
 public:
  explicit OrderedBackend(const std::shared_ptr<Backend>& inner)
      : ForwardingBackend(inner), ordered(inner->ops()), inner_(inner) {}
  Ops& ops() override { return ordered; }
  // Zeros: the CPU's ops compute the rows that fill a bucket too, with whatever token stands there.
  Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) override {
    HEARTH_ASSIGN(Tensor out, ForwardingBackend::allocate(what, dtype, shape));
    zero(out);
    return out;
  }
  OrderedOps ordered;

 private:
  std::shared_ptr<Backend> inner_;
};

// Loads a model and makes its steps, with prompts and generated tokens. False: it is a golden of something else.
bool keep_order(const std::string& folder, std::shared_ptr<Backend> cpu) {
  const auto backend = std::make_shared<OrderedBackend>(std::move(cpu));
  ModelOptions model_options{.max_tokens = 16, .max_logits = 4};
  auto loaded = load_model(folder, *backend, model_options);
  if (!loaded.ok()) return false;
  ModelRunnerOptions options;
  options.max_tokens = 16, options.max_sequences = 4, options.max_logits = 4, options.num_blocks = 8;
  options.token_buckets = {1, 16};
  const auto runner = make_model_runner(backend, std::move(loaded->model), options);
  EXPECT_TRUE(runner.ok()) << folder << ": " << runner.status().message();
  EXPECT_TRUE(runner.ok() && (*runner)->prepare().ok()) << folder;
  EXPECT_GT(backend->ordered.checks, 10) << folder;
  EXPECT_EQ(backend->ordered.wrong, "") << folder;
  return true;
}

// Every family and layout that has a golden.
TEST(LaunchOrder, EveryModelsOpsKeepTheRule) {
  int64_t models = 0;
  for (const auto& folder : std::filesystem::directory_iterator("tests/golden/models")) {
    if (folder.is_directory()) models += keep_order(folder.path().string(), make_cpu_backend(DType::kF32, 1)) ? 1 : 0;
  }
  EXPECT_GT(models, 20);
}

TEST(LaunchOrder, SoDoTheOpsOfTwoRanks) {
  for (const char* folder : {"tests/golden/models/llama_float32", "tests/golden/models/mixtral_fused"}) {
    auto communicators = make_host_communicators(2, std::chrono::seconds(60));
    std::vector<std::thread> ranks;
    for (auto& communicator : communicators) {
      ranks.emplace_back([folder, backend = make_cpu_backend(DType::kF32, 1, std::move(communicator))]() mutable {
        EXPECT_TRUE(keep_order(folder, std::move(backend))) << folder;
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }
}

}  // namespace
}  // namespace hearth::cuda
