// A device whose memory gives out while a model is loaded, at each allocation in turn.
#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "engine/forwarding_backend.h"
#include "engine/model_runner.h"
#include "models/registry.h"

namespace hearth {
namespace {

// Has memory for so many allocations; refuses the others in the words of the GPU's backend.
class SmallDevice final : public ForwardingBackend {
 public:
  explicit SmallDevice(int64_t room) : ForwardingBackend(make_cpu_backend(DType::kF32, 1)), room_(room) {}

  Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) override {
    HEARTH_TRY(take(what));
    return ForwardingBackend::allocate(what, dtype, shape);
  }
  Result<Tensor> allocate_host(std::string_view what, DType dtype, Shape shape) override {
    HEARTH_TRY(take(what));
    return ForwardingBackend::allocate_host(what, dtype, shape);
  }
  Result<Tensor> load(std::string_view what, const Tensor& host, DType dtype) override {
    HEARTH_TRY(take(what));
    return ForwardingBackend::load(what, host, dtype);
  }
  Result<LinearWeight> load_linear(std::string_view what, std::span<const HostMatrix> parts, const Tensor& bias,
                                   LinearFormat format) override {
    HEARTH_TRY(take(what));
    return ForwardingBackend::load_linear(what, parts, bias, format);
  }
  Result<MlpWeights> load_mlp(std::string_view what, const HostMatrix& gate, const HostMatrix& up,
                              const HostMatrix& down, LinearFormat format) override {
    HEARTH_TRY(take(what));
    return ForwardingBackend::load_mlp(what, gate, up, down, format);
  }
  Result<ExpertWeights> load_experts(std::string_view what, std::span<const HostMatrix> gate,
                                     std::span<const HostMatrix> up, std::span<const HostMatrix> down,
                                     LinearFormat format) override {
    HEARTH_TRY(take(what));
    return ForwardingBackend::load_experts(what, gate, up, down, format);
  }
  Status reserve_mlp(const MlpWeights& weights, int64_t max_rows) override {
    HEARTH_TRY(take("the MLP's intermediate rows"));
    return ForwardingBackend::reserve_mlp(weights, max_rows);
  }
  Status reserve_experts(const ExpertWeights& weights, int64_t max_rows, int64_t top_k) override {
    HEARTH_TRY(take("the experts' intermediate rows"));
    return ForwardingBackend::reserve_experts(weights, max_rows, top_k);
  }
  Status reserve_attention(const AttentionShape& shape, const LinearWeight& out, const StepLimits& limits) override {
    HEARTH_TRY(take("attention's plan"));
    return ForwardingBackend::reserve_attention(shape, out, limits);
  }
  bool gave_out() const { return gave_out_; }

 private:
  Status take(std::string_view what) {
    if (room_-- > 0) return {};
    gave_out_ = true;
    return Status(Code::kResourceExhausted, cat("no GPU memory for ", what, ": needs 4096 bytes, 17 are free"));
  }
  int64_t room_;
  bool gave_out_ = false;
};

Status load_all(const char* folder, std::shared_ptr<Backend> backend) {
  HEARTH_ASSIGN(LoadedModel loaded, load_model(folder, *backend, {.max_tokens = 16, .max_logits = 4}));
  ModelRunnerOptions options;
  options.max_tokens = 16, options.max_sequences = 4, options.max_logits = 4, options.num_blocks = 8;
  HEARTH_ASSIGN(const std::unique_ptr<Runner> runner,
                make_model_runner(std::move(backend), std::move(loaded.model), options));
  return runner->prepare();
}

// Nothing crashes, nothing is asked for again, and one line says for what, how much, and what there is.
TEST(OutOfMemory, EndsTheLoadInOneLineWhereverItComes) {
  for (const char* folder : {"tests/golden/models/llama_float32", "tests/golden/models/mixtral_fused"}) {
    int64_t room = 0;
    for (;; ++room) {
      ASSERT_LT(room, 1000);
      const auto device = std::make_shared<SmallDevice>(room);
      const Status status = load_all(folder, device);
      if (!device->gave_out()) {
        EXPECT_TRUE(status.ok()) << status.message();
        break;
      }
      ASSERT_EQ(status.code(), Code::kResourceExhausted) << room;
      EXPECT_NE(status.message().find("needs 4096 bytes, 17 are free"), std::string::npos) << status.message();
      EXPECT_EQ(status.message().find('\n'), std::string::npos);
    }
    EXPECT_GT(room, 20) << folder;  // weights, the cache, the steps' memory, the runner's own
  }
}

}  // namespace
}  // namespace hearth
