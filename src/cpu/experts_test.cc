// route and experts: the parts of a mixture-of-experts layer, alone and together.
#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "cpu/quantize.h"
#include "cpu/test_tensors.h"
#include "ops/router_spans.h"

namespace hearth {
namespace {

struct OwnedRouting {
  OwnedRouting(int64_t tokens, int64_t top_k, int64_t num_experts)
      : experts(DType::kI32, {tokens, top_k}),
        weights(DType::kF32, {tokens, top_k}),
        rows(DType::kI32, {tokens, top_k}),
        starts(DType::kI32, {num_experts}),
        ends(DType::kI32, {num_experts}),
        view{experts, weights, rows, starts, ends} {}
  int32_t at(const OwnedTensor& t, int64_t i) const { return Tensor(t).as<int32_t>()[i]; }
  OwnedTensor experts, weights, rows, starts, ends;
  Routing view;
};

TEST(Route, ChoosesWeighsAndPlaces) {
  using enum DType;
  for (const auto& [act, gate_dtype] : {std::pair{kF32, kF32}, {kBF16, kF32}, {kBF16, kBF16}}) {
    for (const bool renormalize : {true, false}) {
      const int64_t tokens = 50, hidden = 72, num_experts = 8, top_k = 3;
      const OwnedTensor x(act, {tokens, hidden}, random_values(tokens * hidden, 1));
      const OwnedTensor gate(gate_dtype, {num_experts, hidden}, random_values(num_experts * hidden, 2, 0.3f));
      const OwnedRouting r(tokens, top_k, num_experts);
      make_cpu_backend(act, 3)->ops().route({x, gate, {}, {renormalize}, r.view});
      std::vector<int32_t> owner(tokens * top_k, -1);
      for (int64_t t = 0; t < tokens; ++t) {
        std::vector<double> p(num_experts);
        double sum = 0, chosen_sum = 0;
        for (int64_t e = 0; e < num_experts; ++e) {
          for (int64_t i = 0; i < hidden; ++i) p[e] += double(x[t * hidden + i]) * gate[e * hidden + i];
          sum += p[e] = std::exp(p[e]);
        }
        std::vector<int32_t> order(num_experts);
        for (int32_t e = 0; e < num_experts; ++e) order[e] = e;
        std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return p[a] > p[b]; });
        for (int64_t k = 0; k < top_k; ++k) chosen_sum += p[order[k]];
        for (int64_t k = 0; k < top_k; ++k) {
          const int64_t pair = t * top_k + k;
          EXPECT_EQ(r.at(r.experts, pair), order[k]);
          EXPECT_NEAR(r.weights[pair], p[order[k]] / (renormalize ? chosen_sum : sum), 1e-5);
          const int32_t row = r.at(r.rows, pair), e = order[k];
          ASSERT_GE(row, r.at(r.starts, e));
          ASSERT_LT(row, r.at(r.ends, e));
          EXPECT_EQ(owner[row], -1) << "two pairs in one row";
          owner[row] = static_cast<int32_t>(t);
        }
      }
      for (int64_t e = 0; e < num_experts; ++e) {
        for (int32_t row = r.at(r.starts, e) + 1; row < r.at(r.ends, e); ++row) EXPECT_LT(owner[row - 1], owner[row]);
      }
      EXPECT_EQ(r.at(r.ends, num_experts - 1), tokens * top_k);
    }
  }
}

// Chosen by sigmoid and correction, weighed by the sigmoid alone: logits 2, 1, 0, -1.
TEST(Route, SigmoidsWithACorrection) {
  const OwnedTensor x(DType::kF32, {1, 8}, {1, 0, 0, 0, 0, 0, 0, 0});
  std::vector<float> gate_values(32, 0.0f);
  for (int e = 0; e < 4; ++e) gate_values[static_cast<size_t>(8 * e)] = 2.0f - static_cast<float>(e);
  const OwnedTensor gate(DType::kF32, {4, 8}, gate_values);
  const OwnedTensor correction(DType::kF32, {4}, {-1.0f, 0.0f, 0.1f, 0.6f});
  const OwnedTensor shared_gate(DType::kF32, {8}, {-2, 9, 9, 9, 9, 9, 9, 9});
  const auto sigmoid = [](float v) { return 1 / (1 + std::exp(-v)); };
  for (const bool renormalize : {true, false}) {
    OwnedRouting r(1, 2, 4);
    OwnedTensor shared_weights(DType::kF32, {1});
    Routing out = r.view;
    out.shared_weights = shared_weights;
    make_cpu_backend(DType::kF32, 1)
        ->ops()
        .route({x, gate, {}, {renormalize, /*sigmoid=*/true, 3.0f}, out, {}, correction, shared_gate});
    // Corrected: -0.12, 0.73, 0.6, 0.87.
    EXPECT_EQ(out.experts.as<int32_t>()[0], 3);
    EXPECT_EQ(out.experts.as<int32_t>()[1], 1);
    const float sum = renormalize ? sigmoid(-1) + sigmoid(1) : 1;
    EXPECT_NEAR(out.weights.as<float>()[0], 3 * sigmoid(-1) / sum, 1e-6);
    EXPECT_NEAR(out.weights.as<float>()[1], 3 * sigmoid(1) / sum, 1e-6);
    EXPECT_NEAR(*out.shared_weights.as<float>(), sigmoid(-2), 1e-6);
  }
}

// A logit's spans of K are summed one by one (router_spans.h): 2^27 and 1 in neighbouring spans lose the 1, whereas
// 2^27 and -2^27 in one span leave nothing of themselves.
TEST(Route, SumsSpansOfKInOrder) {
  const int64_t hidden = 512, num_experts = 4, length = router_spans(hidden, num_experts).length;
  ASSERT_EQ(length, 32);
  ASSERT_EQ(router_spans(2048, 128).length, 256);
  ASSERT_EQ(router_spans(2048, 128).count, 8);
  const OwnedTensor x(DType::kF32, {1, hidden}, std::vector<float>(hidden, 1.0f));
  std::vector<float> gate(num_experts * hidden);
  gate[0] = 0x1p27f, gate[length] = 1.0f, gate[2 * length] = -0x1p27f;                     // 0
  gate[hidden] = 0.5f;                                                                     // 0.5
  gate[2 * hidden] = 0x1p27f, gate[2 * hidden + 16] = -0x1p27f, gate[3 * hidden - 1] = 1;  // 1
  gate[3 * hidden + length] = -1.0f;                                                       // -1
  const OwnedTensor router(DType::kF32, {num_experts, hidden}, gate);
  const OwnedRouting r(1, 4, num_experts);
  make_cpu_backend(DType::kF32, 1)->ops().route({x, router, {}, {}, r.view});
  const int32_t expected[] = {2, 1, 0, 3};
  for (int64_t k = 0; k < 4; ++k) EXPECT_EQ(r.at(r.experts, k), expected[k]);
}

// Where probabilities vanish logits still tell experts apart; one that is NaN never wins.
TEST(Route, ChoosesByLogits) {
  const OwnedTensor x(DType::kF32, {1, 2}, {1, 0});
  const OwnedTensor gate(DType::kF32, {5, 2}, {NAN, 0, -300, 0, 0, 0, -200, 0, -400, 0});
  const OwnedRouting r(1, 3, 5);
  make_cpu_backend(DType::kF32, 1)->ops().route({x, gate, {}, {}, r.view});
  const int32_t expected[] = {2, 3, 1};
  for (int64_t k = 0; k < 3; ++k) EXPECT_EQ(r.at(r.experts, k), expected[k]);
  EXPECT_EQ(r.weights[0], 1);
  EXPECT_EQ(r.weights[1], 0);
}

TEST(Route, TiesGoToLowerExpertsAndNaNToSomeExpert) {
  const OwnedTensor x(DType::kF32, {2, 2}, {1, 0, NAN, 0});
  const OwnedTensor gate(DType::kF32, {4, 2}, {1, 0, 2, 0, 2, 0, 1, 0});
  const OwnedRouting r(2, 3, 4);
  make_cpu_backend(DType::kF32, 1)->ops().route({x, gate, {}, {true}, r.view});
  const int32_t expected[] = {1, 2, 0};
  for (int64_t k = 0; k < 3; ++k) EXPECT_EQ(r.at(r.experts, k), expected[k]);
  EXPECT_EQ(r.weights[0], r.weights[1]);
  for (int64_t k = 3; k < 6; ++k) {
    EXPECT_GE(r.at(r.experts, k), 0);
    EXPECT_LT(r.at(r.experts, k), 4);
    EXPECT_TRUE(std::isnan(r.weights[k]));
  }
}

// The whole layer, in 16 bit and FP8: each expert's rows are what its MLP alone gives, to the bit.
TEST(Experts, EachIsItsOwnMlp) {
  const int64_t hidden = 136, intermediate = 200, num_experts = 5, top_k = 2, tokens = 33;
  struct Weights {
    OwnedTensor gate, up, down;
  };
  std::vector<Weights> weights;
  std::vector<HostMatrix> gate, up, down;
  for (uint32_t e = 0; e < num_experts; ++e) {
    weights.push_back({{DType::kBF16, {intermediate, hidden}, random_values(intermediate * hidden, 3 * e)},
                       {DType::kBF16, {intermediate, hidden}, random_values(intermediate * hidden, 3 * e + 1)},
                       {DType::kBF16, {hidden, intermediate}, random_values(intermediate * hidden, 3 * e + 2)}});
  }
  for (const Weights& w : weights) {
    gate.push_back({w.gate});
    up.push_back({w.up});
    down.push_back({w.down});
  }
  const OwnedTensor x(DType::kBF16, {tokens, hidden}, random_values(tokens * hidden, 77));
  // Experts 1, 2 and 3 are equally likely, so that nobody chooses 3.
  std::vector<float> gate_values = random_values(num_experts * hidden, 78);
  for (int64_t e : {2, 3}) std::copy_n(gate_values.begin() + hidden, hidden, gate_values.begin() + e * hidden);
  const OwnedTensor router(DType::kF32, {num_experts, hidden}, gate_values);
  for (const LinearFormat format : {LinearFormat::kAsStored, LinearFormat::kQuantize, LinearFormat::kWeightOnly}) {
    std::vector<uint8_t> expected;
    for (const int threads : {1, 3}) {
      auto backend = make_cpu_backend(DType::kBF16, threads);
      const ExpertWeights w = backend->load_experts("experts", gate, up, down, format).value();
      const bool fp8 = format == LinearFormat::kQuantize;
      EXPECT_EQ(w.input, (fp8 ? InputType{DType::kE4M3, ActivationScales::kPerToken} : InputType{DType::kBF16}));
      EXPECT_EQ(w.down_input, w.input);
      const int64_t rows = backend->expert_rows(tokens, top_k, num_experts);
      OwnedRouting r(tokens, top_k, num_experts);
      backend->ops().route({x, router, {}, {true}, r.view});
      EXPECT_EQ(r.at(r.starts, 3), r.at(r.ends, 3));
      const OwnedTensor out(DType::kBF16, {rows, hidden});
      ASSERT_TRUE(backend->reserve_experts(w, tokens, top_k).ok());
      backend->ops().experts({x, {}, &r.view, &w, out});
      if (expected.empty()) expected = out.bytes();
      EXPECT_EQ(out.bytes(), expected);
      for (int64_t e = 0; e < num_experts; ++e) {
        const MlpWeights mlp = backend->load_mlp("mlp", gate[e], up[e], down[e], format).value();
        ASSERT_TRUE(backend->reserve_mlp(mlp, 1).ok());
        for (int64_t pair = 0; pair < tokens * top_k; ++pair) {
          if (r.at(r.experts, pair) != e) continue;
          std::vector<float> values(hidden);
          for (int64_t i = 0; i < hidden; ++i) values[i] = x[pair / top_k * hidden + i];
          const OwnedActivation one(mlp.gate_up.input, 1, hidden);
          store_activation(values.data(), hidden, one, 0);
          const OwnedTensor alone(DType::kBF16, {1, hidden});
          backend->ops().mlp({one, &mlp, alone});
          const int64_t row = r.at(r.rows, pair);
          ASSERT_EQ(floats(Tensor(out).rows(row, 1)), floats(alone)) << "expert " << e;
        }
      }
    }
  }
}

// A bias moves the choice and the weights.
TEST(Route, AddsItsBias) {
  const OwnedTensor x(DType::kF32, {1, 2}, {1, 0}), gate(DType::kF32, {4, 2}, {1, 0, 2, 0, 3, 0, 4, 0}),
      bias(DType::kF32, {4}, {5, 0, 0, -3});
  const OwnedRouting r(1, 2, 4);
  RouteArgs args{x, gate, {}, {}, r.view};
  args.bias = bias;
  make_cpu_backend(DType::kF32, 1)->ops().route(args);  // logits 6, 2, 3, 1
  EXPECT_EQ(r.at(r.experts, 0), 0);
  EXPECT_EQ(r.at(r.experts, 1), 2);
  EXPECT_NEAR(r.weights[0], 1 / (1 + std::exp(-3.0)), 1e-6);
  EXPECT_NEAR(r.weights[1], 1 / (1 + std::exp(3.0)), 1e-6);
}

// gpt-oss' experts: biases of all three matrices, and limits that some values reach. Sizes that fill no panel.
TEST(Experts, BiasesAndClampedSwiglu) {
  const int64_t hidden = 72, intermediate = 70, num_experts = 3, top_k = 2, tokens = 9;
  std::vector<OwnedTensor> owned;
  owned.reserve(18);
  const auto matrix = [&](int64_t rows, int64_t columns) {
    const auto seed = static_cast<uint32_t>(owned.size());
    owned.emplace_back(DType::kF32, Shape{rows, columns}, random_values(rows * columns, seed, 0.5f));
    HostMatrix out{owned.back()};
    owned.emplace_back(DType::kF32, Shape{rows}, random_values(rows, seed + 50));
    out.bias = owned.back();
    return out;
  };
  std::vector<HostMatrix> gate, up, down;
  for (int64_t e = 0; e < num_experts; ++e) {
    gate.push_back(matrix(intermediate, hidden));
    up.push_back(matrix(intermediate, hidden));
    down.push_back(matrix(hidden, intermediate));
  }
  const OwnedTensor x(DType::kF32, {tokens, hidden}, random_values(tokens * hidden, 77)),
      router(DType::kF32, {num_experts, hidden}, random_values(num_experts * hidden, 78));
  auto backend = make_cpu_backend(DType::kF32, 2);
  const ExpertWeights w = backend->load_experts("experts", gate, up, down, LinearFormat::kAsStored).value();
  OwnedRouting r(tokens, top_k, num_experts);
  backend->ops().route({x, router, {}, {}, r.view});
  const OwnedTensor out(DType::kF32, {tokens * top_k, hidden});
  ASSERT_TRUE(backend->reserve_experts(w, tokens, top_k).ok());
  ExpertsArgs args{x, {}, &r.view, &w, out};
  args.swiglu = {.clamped = true, .limit = 2.0f, .alpha = 1.5f};
  backend->ops().experts(args);
  const auto product = [](const HostMatrix& m, const std::vector<double>& in, int64_t row) {
    double sum = element(m.bias, row);
    for (size_t k = 0; k < in.size(); ++k)
      sum += in[k] * element(m.data, row * m.data.dim(1) + static_cast<int64_t>(k));
    return sum;
  };
  int64_t limited = 0;
  for (int64_t pair = 0; pair < tokens * top_k; ++pair) {
    const auto e = static_cast<size_t>(r.at(r.experts, pair));
    std::vector<double> in(hidden), between(intermediate);
    for (int64_t k = 0; k < hidden; ++k) in[static_cast<size_t>(k)] = x[pair / top_k * hidden + k];
    for (int64_t i = 0; i < intermediate; ++i) {
      const double a = product(gate[e], in, i), b = product(up[e], in, i);
      const double g = std::min(a, 2.0), u = std::clamp(b, -2.0, 2.0);
      limited += g != a || u != b;
      between[static_cast<size_t>(i)] = g / (1 + std::exp(-1.5 * g)) * (u + 1);
    }
    for (int64_t o = 0; o < hidden; ++o) {
      ASSERT_NEAR(out[r.at(r.rows, pair) * hidden + o], product(down[e], between, o), 1e-4);
    }
  }
  EXPECT_GT(limited, 100);
}

// Down's scales hold those of its input: what it reads is the product as e4m3, saturating, without a scale; the same in
// 16 bit where activations are not quantized.
TEST(Experts, DownsScalesMayHoldItsInputs) {
  const int64_t hidden = 96, intermediate = 80, rows = 7;
  const auto e4m3 = [](int64_t out, int64_t in, uint32_t seed) {
    return OwnedTensor(DType::kE4M3, {out, in}, random_values(out * in, seed, 30));
  };
  const OwnedTensor gate = e4m3(intermediate, hidden, 1), up = e4m3(intermediate, hidden, 2),
                    down = e4m3(hidden, intermediate, 3);
  const OwnedTensor gate_scales(DType::kF32, {intermediate}, std::vector<float>(intermediate, 0.003f)),
      up_scales(DType::kF32, {intermediate}, std::vector<float>(intermediate, 2.0f)),
      down_scales(DType::kF32, {hidden}, std::vector<float>(hidden, 0.001f));
  const HostMatrix hosts[] = {{gate, WeightScales::kChannel, gate_scales},
                              {up, WeightScales::kChannel, up_scales},
                              {down, WeightScales::kChannel, down_scales, /*scales_input=*/true}};
  for (const LinearFormat format : {LinearFormat::kAsStored, LinearFormat::kWeightOnly}) {
    const bool fp8 = format == LinearFormat::kAsStored;
    auto backend = make_cpu_backend(DType::kF32, 2);
    const MlpWeights w = backend->load_mlp("mlp", hosts[0], hosts[1], hosts[2], format).value();
    EXPECT_EQ(w.down.input, (fp8 ? InputType{DType::kE4M3, ActivationScales::kNone} : InputType{DType::kF32}));
    const ExpertWeights experts =
        backend->load_experts("experts", {&hosts[0], 1}, {&hosts[1], 1}, {&hosts[2], 1}, format).value();
    EXPECT_EQ(experts.down_input, w.down.input);
    EXPECT_EQ(experts.input, w.gate_up.input);
    const OwnedActivation x(w.gate_up.input, rows, hidden);
    const std::vector<float> values = random_values(rows * hidden, 5);
    for (int64_t row = 0; row < rows; ++row) store_activation(values.data() + row * hidden, hidden, x, row);
    const OwnedTensor out(DType::kF32, {rows, hidden});
    ASSERT_TRUE(backend->reserve_mlp(w, rows).ok());
    backend->ops().mlp({x, &w, out});
    const ActivationView between = mlp_product(*backend, w);
    int64_t saturated = 0;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < intermediate; ++i) {
        double a = 0, b = 0;
        for (int64_t k = 0; k < hidden; ++k) {
          a += double(x.value(row, k)) * gate[i * hidden + k] * 0.003f;
          b += double(x.value(row, k)) * up[i * hidden + k] * 2.0f;
        }
        double product = a / (1 + std::exp(-a)) * b;
        saturated += std::fabs(product) > kRowE4M3Max;
        if (fp8) product = std::clamp<double>(product, -kRowE4M3Max, kRowE4M3Max);
        ASSERT_NEAR(between.value(row, i), product, std::fabs(product) * (fp8 ? 0.0626 : 1e-5) + 0x1p-9);
      }
      for (int64_t o = 0; o < hidden; ++o) {
        double sum = 0, magnitude = 0;
        for (int64_t k = 0; k < intermediate; ++k) {
          const double term = between.value(row, k) * double(down[o * intermediate + k]) * 0.001f;
          sum += term, magnitude += std::fabs(term);
        }
        ASSERT_NEAR(out[row * hidden + o], sum, magnitude * 1e-6);
      }
    }
    EXPECT_GT(saturated, 0);
  }
}

// One expert's block scales beside another's channel scales: both are kept.
TEST(Experts, ScalesOfEachExpertAreItsOwn) {
  const int64_t hidden = 160, intermediate = 144;
  std::vector<OwnedTensor> data, scales;
  const auto matrix = [&](int64_t rows, int64_t columns, bool block) {
    const uint32_t seed = static_cast<uint32_t>(data.size());
    data.emplace_back(DType::kE4M3, Shape{rows, columns}, random_values(rows * columns, seed, 30));
    const Shape shape = block ? Shape{ceil_div(rows, 128), ceil_div(columns, 128)} : Shape{rows};
    scales.emplace_back(DType::kF32, shape, random_values(shape.elements(), seed + 100, 0.01f));
    return HostMatrix{data.back(), block ? WeightScales::kBlock : WeightScales::kChannel, scales.back()};
  };
  const HostMatrix gate[] = {matrix(intermediate, hidden, false), matrix(intermediate, hidden, true)};
  const HostMatrix up[] = {matrix(intermediate, hidden, true), matrix(intermediate, hidden, true)};
  const HostMatrix down[] = {matrix(hidden, intermediate, false), matrix(hidden, intermediate, true)};
  auto backend = make_cpu_backend(DType::kF32, 2);
  const ExpertWeights w = backend->load_experts("experts", gate, up, down, LinearFormat::kAsStored).value();
  OwnedRouting r(2, 2, 2);
  const OwnedTensor x(DType::kF32, {2, hidden}, random_values(2 * hidden, 50)),
      router(DType::kF32, {2, hidden}, random_values(2 * hidden, 51));
  backend->ops().route({x, router, {}, {true}, r.view});
  const OwnedTensor out(DType::kF32, {4, hidden});
  ASSERT_TRUE(backend->reserve_experts(w, 2, 2).ok());
  backend->ops().experts({x, {}, &r.view, &w, out});
  const ActivationView gathered = expert_input(*backend, w), between = expert_product(*backend, w);
  const auto value = [](const HostMatrix& m, int64_t row, int64_t k) {
    const float s = m.kind == WeightScales::kBlock ? element(m.scales, row / 128 * m.scales.dim(1) + k / 128)
                                                   : element(m.scales, row);
    return double(element(m.data, row * m.data.dim(1) + k)) * s;
  };
  for (int64_t pair = 0; pair < 4; ++pair) {
    const int64_t row = r.at(r.rows, pair), e = r.at(r.experts, pair);
    for (int64_t i = 0; i < intermediate; ++i) {
      double a = 0, b = 0;
      for (int64_t k = 0; k < hidden; ++k) {
        a += gathered.value(row, k) * value(gate[e], i, k);
        b += gathered.value(row, k) * value(up[e], i, k);
      }
      const double product = a / (1 + std::exp(-a)) * b;
      const float largest = 448 * between.scale(row, i);
      ASSERT_NEAR(between.value(row, i), product, std::fabs(product) * 0.0626 + largest * 2e-5);
    }
    for (int64_t o = 0; o < hidden; ++o) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < intermediate; ++k) {
        const double term = between.value(row, k) * value(down[e], o, k);
        sum += term;
        magnitude += std::fabs(term);
      }
      ASSERT_NEAR(out[row * hidden + o], sum, magnitude * 1e-6);
    }
  }
}

}  // namespace
}  // namespace hearth
