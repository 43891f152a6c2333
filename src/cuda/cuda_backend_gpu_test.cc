// Layers through the whole backend, on the GPU and on the CPU: weights loaded from one checkpoint's matrices, products,
// routing and attention joined as a model joins them.
#include "cuda/cuda_backend.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "cpu/cpu_backend.h"
#include "cuda/gpu_testing.h"

namespace hearth {
namespace {

struct Matrix {
  std::vector<float> values;
  HostMatrix host;
  Matrix(int64_t out, int64_t in, uint64_t seed) : values(static_cast<size_t>(out * in)) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.0f, 0.05f);
    for (float& v : values) v = to_float(to_bf16(normal(random)));  // exact in every 16-bit checkpoint and here
    host.data = {values.data(), DType::kF32, {out, in}};
  }
  Matrix(Matrix&&) = default;
};

// As a checkpoint holds it that comes in e4m3 with a scale for every 128 x 128, or for every row, which may hold that
// of its input too.
template <WeightScales kKind>
struct ScaledMatrix {
  std::vector<uint8_t> values;
  std::vector<float> scales;
  HostMatrix host;
  ScaledMatrix(int64_t out, int64_t in, uint64_t seed) : values(static_cast<size_t>(out * in)) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.0f, 60.0f);
    std::uniform_real_distribution<float> scale(0.2e-3f, 2e-3f);
    for (uint8_t& v : values) v = to_e4m3(normal(random)).bits;
    const Shape shape =
        kKind == WeightScales::kBlock ? Shape{ceil_div(out, kScaleGroup), ceil_div(in, kScaleGroup)} : Shape{out};
    for (int64_t i = 0; i < shape.elements(); ++i) scales.push_back(scale(random));
    host = {{values.data(), DType::kE4M3, {out, in}}, kKind, {scales.data(), DType::kF32, shape}};
  }
  ScaledMatrix(ScaledMatrix&&) = default;
};
using BlockScaledMatrix = ScaledMatrix<WeightScales::kBlock>;
using ChannelScaledMatrix = ScaledMatrix<WeightScales::kChannel>;

// One backend's memory by way of host vectors.
struct On {
  Backend& backend;
  Tensor put(DType dtype, Shape shape, const std::vector<float>& values) {
    std::vector<uint8_t> bytes(static_cast<size_t>(shape.elements() * dtype_size(dtype)));
    const Tensor host{bytes.data(), dtype, shape};
    for (int64_t i = 0; i < shape.elements(); ++i) cuda::set_element(host, i, values[static_cast<size_t>(i)]);
    const Tensor device = backend.allocate("test", dtype, shape).value();
    backend.upload(host, device);
    return device;
  }
  Tensor empty(DType dtype, Shape shape) {
    const Tensor device = backend.allocate("test", dtype, shape).value();
    backend.zero(device);
    return device;
  }
  std::vector<float> get(const Tensor& device) {
    std::vector<uint8_t> bytes(static_cast<size_t>(device.bytes()));
    const Tensor host{bytes.data(), device.dtype, device.shape};
    backend.download(device, host);
    std::vector<float> out;
    for (int64_t i = 0; i < device.shape.elements(); ++i) out.push_back(cuda::element(host, i));
    return out;
  }
};

std::vector<float> normal_values(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(n));
  for (float& v : out) v = to_float(to_bf16(normal(random)));
  return out;
}

double relative_error(const std::vector<float>& want, const std::vector<float>& got) {
  double squared = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squared += (double{want[i]} - got[i]) * (double{want[i]} - got[i]);
    norm += double{want[i]} * want[i];
  }
  return std::sqrt(squared / norm);
}

void compare(const char* what, double bound, const std::function<std::vector<float>(Backend&)>& run) {
  const auto gpu = make_cuda_backend(DType::kBF16);
  ASSERT_TRUE(gpu.ok()) << gpu.status().message();
  const auto cpu = make_cpu_backend(DType::kBF16, 2);
  const double error = relative_error(run(*cpu), run(**gpu));
  std::printf("%s: relative error %.6f\n", what, error);
  EXPECT_LT(error, bound) << what;
}

constexpr LinearFormat kFormats[] = {LinearFormat::kAsStored, LinearFormat::kQuantize};

TEST(CudaBackendGpu, LinearsAreTheCpus) {
  constexpr int64_t kIn = 576, kTokens = 37;
  std::vector<Matrix> parts;
  parts.emplace_back(96, kIn, 1);
  parts.emplace_back(48, kIn, 2);
  parts.emplace_back(64, kIn, 3);
  const HostMatrix hosts[] = {parts[0].host, parts[1].host, parts[2].host};
  std::vector<float> bias = normal_values(208, 4);
  for (const LinearFormat format : kFormats) {
    compare(format == LinearFormat::kQuantize ? "linear, fp8" : "linear", 0.01, [&](Backend& backend) {
      On on{backend};
      const LinearWeight weight = backend.load_linear("test", hosts, {bias.data(), DType::kF32, {208}}, format).value();
      const Tensor x = on.put(DType::kBF16, {kTokens, kIn}, normal_values(kTokens * kIn, 5));
      const Activation in = backend.input_of("test", weight, kTokens).value();
      const Tensor ones = on.put(DType::kF32, {kIn}, std::vector<float>(kIn, 1.0f));
      const Tensor out = on.empty(DType::kBF16, {kTokens, 208});
      backend.ops().norm({x, {}, ones, 1e-5f, in, {}});
      backend.ops().linear({in, &weight, out});
      return on.get(out);
    });
  }
}

void compare_experts(const char* what, LinearFormat format, std::span<const HostMatrix> gate,
                     std::span<const HostMatrix> up, std::span<const HostMatrix> down, const Swiglu& swiglu = {}) {
  constexpr int64_t kTopK = 2, kTokens = 75;
  const int64_t experts = std::ssize(gate), hidden = gate[0].data.dim(1);
  compare(what, 0.015, [&](Backend& backend) {
    On on{backend};
    const ExpertWeights weights = backend.load_experts("test", gate, up, down, format).value();
    const int64_t rows = backend.expert_rows(kTokens, kTopK, experts);
    const Tensor x = on.put(DType::kBF16, {kTokens, hidden}, normal_values(kTokens * hidden, 50));
    const Tensor router = on.put(DType::kF32, {experts, hidden}, normal_values(experts * hidden, 51));
    const Routing routing{on.empty(DType::kI32, {kTokens, kTopK}), on.empty(DType::kF32, {kTokens, kTopK}),
                          on.empty(DType::kI32, {kTokens, kTopK}), on.empty(DType::kI32, {experts}),
                          on.empty(DType::kI32, {experts})};
    HEARTH_CHECK(backend.reserve_experts(weights, kTokens, kTopK).ok());
    const Tensor expert_out = on.empty(DType::kBF16, {rows, hidden}), out = on.empty(DType::kBF16, {kTokens, hidden});
    const Tensor residual =
        on.put(DType::kBF16, {kTokens, hidden}, std::vector<float>(static_cast<size_t>(kTokens * hidden)));
    const Tensor ones = on.put(DType::kF32, {hidden}, std::vector<float>(static_cast<size_t>(hidden), 1.0f));
    backend.ops().route({x, router, {}, {true}, routing});
    backend.ops().experts({x, {}, &routing, &weights, expert_out, swiglu});
    backend.ops().norm({residual, expert_out, ones, 1e-5f, {out, {}}, {}, {}, &routing});
    return on.get(out);
  });
}

// Experts of one kind of matrix, and what keeps their memory.
template <typename M>
struct ExpertMatrices {
  std::vector<M> matrices;
  std::vector<HostMatrix> gate, up, down;
  explicit ExpertMatrices(uint64_t experts = 6, int64_t hidden = 256, int64_t intermediate = 448) {
    for (uint64_t e = 0; e < experts; ++e) {
      gate.push_back(matrices.emplace_back(intermediate, hidden, 3 * e).host);
      up.push_back(matrices.emplace_back(intermediate, hidden, 3 * e + 1).host);
      down.push_back(matrices.emplace_back(hidden, intermediate, 3 * e + 2).host);
    }
  }
};

// Vocabularies of any size.
TEST(CudaBackendGpu, HeadsOfAnyNumberOfRowsAreTheCpus) {
  constexpr int64_t kIn = 192;
  for (const int64_t rows : {1, 37, 1001, 32003}) {
    const Matrix head(rows, kIn, 9);
    for (const int64_t tokens : {1, 70}) {
      compare(cat("head of ", rows).c_str(), 1e-5, [&](Backend& backend) {
        On on{backend};
        const LinearWeight weight = backend.load_linear("test", {&head.host, 1}, {}, LinearFormat::kAsStored).value();
        const Tensor x = on.put(DType::kBF16, {tokens, kIn}, normal_values(tokens * kIn, 5));
        const Tensor out = on.put(DType::kF32, {tokens + 1, rows},
                                  std::vector<float>(static_cast<size_t>((tokens + 1) * rows), -7.0f));
        backend.ops().linear({{x, {}}, &weight, out.rows(0, tokens)});
        const std::vector<float> got = on.get(out);
        for (size_t i = static_cast<size_t>(tokens * rows); i < got.size(); ++i) EXPECT_EQ(got[i], -7.0f);
        return got;
      });
    }
  }
}

TEST(CudaBackendGpu, MoeLayersAreTheCpus) {
  const ExpertMatrices<Matrix> plain;
  compare_experts("experts", LinearFormat::kAsStored, plain.gate, plain.up, plain.down);
  compare_experts("experts, fp8", LinearFormat::kQuantize, plain.gate, plain.up, plain.down);
}

// More than one launch takes.
TEST(CudaBackendGpu, ManyExpertsAreTheCpus) {
  const ExpertMatrices<Matrix> plain(300, 128, 64);
  compare_experts("300 experts", LinearFormat::kAsStored, plain.gate, plain.up, plain.down);
  compare_experts("300 experts, fp8", LinearFormat::kQuantize, plain.gate, plain.up, plain.down);
  const ExpertMatrices<BlockScaledMatrix> blocks(300, 256, 192);
  compare_experts("300 experts, fp8 scaled by blocks", LinearFormat::kAsStored, blocks.gate, blocks.up, blocks.down);
}

// gpt-oss' experts: biases, and limits that are reached.
TEST(CudaBackendGpu, BiasedClampedMoeLayersAreTheCpus) {
  ExpertMatrices<Matrix> plain;
  std::vector<std::vector<float>> biases;
  for (auto* matrices : {&plain.gate, &plain.up, &plain.down}) {
    for (HostMatrix& m : *matrices) {
      biases.push_back(normal_values(m.data.dim(0), 200 + biases.size()));
      m.bias = {biases.back().data(), DType::kF32, {m.data.dim(0)}};
    }
  }
  for (const float limit : {7.0f, 0.5f}) {
    const Swiglu swiglu{.clamped = true, .limit = limit};
    compare_experts("clamped experts", LinearFormat::kAsStored, plain.gate, plain.up, plain.down, swiglu);
    compare_experts("clamped experts, fp8", LinearFormat::kQuantize, plain.gate, plain.up, plain.down, swiglu);
  }
}

TEST(CudaBackendGpu, BlockScaledMoeLayersAreTheCpus) {
  const ExpertMatrices<BlockScaledMatrix> blocks;
  compare_experts("experts, fp8 scaled by blocks", LinearFormat::kAsStored, blocks.gate, blocks.up, blocks.down);
}

TEST(CudaBackendGpu, StaticMoeLayersAreTheCpus) {
  ExpertMatrices<ChannelScaledMatrix> fixed;
  compare_experts("experts, fp8", LinearFormat::kAsStored, fixed.gate, fixed.up, fixed.down);
  for (HostMatrix& down : fixed.down) down.scales_input = true;
  compare_experts("experts, fp8, down's input without scales", LinearFormat::kAsStored, fixed.gate, fixed.up,
                  fixed.down);
}

void compare_mlp(const char* what, LinearFormat format, const HostMatrix& gate, const HostMatrix& up,
                 const HostMatrix& down) {
  constexpr int64_t kTokens = 19;
  const int64_t hidden = gate.data.dim(1);
  compare(what, 0.015, [&](Backend& backend) {
    On on{backend};
    const MlpWeights weights = backend.load_mlp("test", gate, up, down, format).value();
    const Tensor x = on.put(DType::kBF16, {kTokens, hidden}, normal_values(kTokens * hidden, 5));
    const Activation in = backend.input_of("test", weights.gate_up, kTokens).value();
    HEARTH_CHECK(backend.reserve_mlp(weights, kTokens).ok());
    const Tensor ones = on.put(DType::kF32, {hidden}, std::vector<float>(static_cast<size_t>(hidden), 1.0f));
    const Tensor out = on.empty(DType::kBF16, {kTokens, hidden});
    backend.ops().norm({x, {}, ones, 1e-5f, in, {}});
    backend.ops().mlp({in, &weights, out});
    return on.get(out);
  });
}

template <typename M>
struct MlpMatrices {
  M gate{1536, 576, 1}, up{1536, 576, 2}, down{576, 1536, 3};
};

TEST(CudaBackendGpu, MlpsAreTheCpus) {
  const MlpMatrices<Matrix> plain;
  compare_mlp("mlp", LinearFormat::kAsStored, plain.gate.host, plain.up.host, plain.down.host);
  compare_mlp("mlp, fp8", LinearFormat::kQuantize, plain.gate.host, plain.up.host, plain.down.host);
}

TEST(CudaBackendGpu, StaticMlpsAreTheCpus) {
  MlpMatrices<ChannelScaledMatrix> fixed;
  fixed.down.host.scales_input = true;
  compare_mlp("mlp, fp8, down's input without scales", LinearFormat::kAsStored, fixed.gate.host, fixed.up.host,
              fixed.down.host);
}

TEST(CudaBackendGpu, BlockScaledMlpsAreTheCpus) {
  const MlpMatrices<BlockScaledMatrix> blocks;
  compare_mlp("mlp, fp8 scaled by blocks", LinearFormat::kAsStored, blocks.gate.host, blocks.up.host, blocks.down.host);
}

// A captured step reads its sizes and inputs anew at every replay.
TEST(CudaBackendGpu, SmallCapturedStepsReadTheDevice) {
  const auto backend = make_cuda_backend(DType::kF16).value();
  On on{*backend};
  std::vector<float> rows(4 * 64);
  std::iota(rows.begin(), rows.end(), 0.0f);
  const Tensor table = on.put(DType::kF16, {4, 64}, rows), ids = on.empty(DType::kI32, {2});
  const Tensor out = on.empty(DType::kF16, {2, 64}), count = on.empty(DType::kI32, {1});
  int recorded = 0;
  for (int32_t step = 0; step < 3; ++step) {
    int32_t values[] = {step, 3 - step}, live = step == 2 ? 1 : 2;
    backend->upload({values, DType::kI32, {2}}, ids);
    backend->upload({&live, DType::kI32, {1}}, count);
    backend->zero(out);
    backend->run(7, [&] {
      ++recorded;
      backend->ops().embed({ids, {}, table, out, count});
    });
    const std::optional<RunTime> time = backend->wait(backend->mark()).value();
    ASSERT_TRUE(time.has_value());
    EXPECT_GT(time->seconds, 0);
    EXPECT_EQ(time->gap > 0, step > 0);  // in which the host looked at results
    const std::vector<float> got = on.get(out);
    EXPECT_EQ(got[5], static_cast<float>(step * 64 + 5));
    EXPECT_EQ(got[64 + 5], live == 1 ? 0.0f : static_cast<float>((3 - step) * 64 + 5));
  }
  EXPECT_EQ(recorded, 1);
}

// Two replays of one step in flight keep times of their own, and what the host leaves out shows as a gap.
TEST(CudaBackendGpu, StepsAreTimed) {
  const auto backend = make_cuda_backend(DType::kF16).value();
  On on{*backend};
  constexpr int64_t kRows = 4096, kWidth = 4096;
  const Tensor table = on.put(DType::kF16, {1, kWidth}, std::vector<float>(kWidth, 1.0f));
  const Tensor ids = on.empty(DType::kI32, {kRows});
  backend->zero(ids);
  const Tensor out = on.empty(DType::kF16, {kRows, kWidth});
  const auto step = [&] {
    backend->run(1, [&] { backend->ops().embed({ids, {}, table, out, {}}); });
    return backend->mark();
  };
  ASSERT_TRUE(backend->wait(step()).ok());
  const int64_t first = step(), second = step();
  const RunTime one = backend->wait(first).value().value(), two = backend->wait(second).value().value();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const RunTime late = backend->wait(step()).value().value();
  for (const RunTime& time : {one, two, late}) {
    EXPECT_GT(time.seconds, kRows * kWidth * 2 / 20e12);  // faster than any memory
    EXPECT_LT(time.seconds, 0.01);
  }
  EXPECT_LT(two.gap, 0.005);
  EXPECT_GE(late.gap, 0.02);
  EXPECT_LT(late.gap, 1);
}

TEST(CudaBackendGpu, RefusesWhatDoesNotFit) {
  const auto backend = make_cuda_backend(DType::kBF16).value();
  const auto huge = backend->allocate("a terabyte", DType::kU8, {int64_t{1} << 40});
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(huge.status().code(), Code::kResourceExhausted);
  EXPECT_NE(huge.status().message().find("1099511627776"), std::string::npos) << huge.status().message();
}

TEST(CudaBackendGpu, SmallRefusesRowsOfOneBlock) {
  const auto backend = make_cuda_backend(DType::kBF16).value();
  const BlockScaledMatrix narrow(128, 128, 1);
  const auto weight = backend->load_linear("test", {&narrow.host, 1}, {}, LinearFormat::kAsStored);
  ASSERT_FALSE(weight.ok());
  EXPECT_NE(weight.status().message().find("more than one block of 128 columns"), std::string::npos);
}

TEST(CudaBackendGpu, SmallDummyWeightsAreRandom) {
  const auto backend = make_cuda_backend(DType::kBF16).value();
  On on{*backend};
  HostMatrix shape;
  shape.data = {nullptr, DType::kBF16, {256, 128}};
  for (const LinearFormat format : kFormats) {
    const LinearWeight weight = backend->load_linear("test", {&shape, 1}, {}, format).value();
    const float scale = weight.scales ? on.get(weight.scales)[255] : 1.0f;
    double squares = 0;
    for (const float v : on.get(weight.data)) squares += double{v} * scale * v * scale;
    EXPECT_NEAR(std::sqrt(squares / (256 * 128)), kRandomWeightDeviation, 0.05 * kRandomWeightDeviation);
  }
}

}  // namespace
}  // namespace hearth
