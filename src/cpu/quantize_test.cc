// The FP8 recipe against tests/golden/cpu/fp8.json, made by tools/make_cpu_goldens.py.
#include "cpu/quantize.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/json.h"
#include "cpu/cpu_backend.h"
#include "cpu/test_tensors.h"

namespace hearth {
namespace {

class Golden {
 public:
  Golden() {
    std::ifstream in("tests/golden/cpu/fp8.json");
    std::stringstream text;
    text << in.rdbuf();
    json_ = parse_json(text.str()).value();
  }
  OwnedTensor operator[](const char* name) const {
    const Json& j = json_.at(name);
    const std::string hex = j.at("hex").get<std::string>(), dtype = j.at("dtype").get<std::string>();
    Shape shape;
    const auto dims = j.at("shape").get<std::vector<int64_t>>();
    shape = dims.size() == 1 ? Shape{dims[0]} : Shape{dims[0], dims[1]};
    const OwnedTensor out(dtype == "float32" ? DType::kF32 : dtype == "float16" ? DType::kF16 : DType::kE4M3, shape);
    const Tensor t = out;
    for (int64_t i = 0; i < t.bytes(); ++i) {
      static_cast<uint8_t*>(t.data)[i] =
          static_cast<uint8_t>(std::stoi(hex.substr(static_cast<size_t>(2 * i), 2), nullptr, 16));
    }
    return out;
  }

 private:
  Json json_;
};

void expect_same(const OwnedTensor& a, const OwnedTensor& b) {
  ASSERT_EQ(Tensor(a).shape, Tensor(b).shape);
  EXPECT_EQ(a.bytes(), b.bytes());
}

TEST(Quantize, ActivationsMatchTheGolden) {
  const Golden golden;
  const OwnedTensor x = golden["x"];
  const int64_t tokens = Tensor(x).dim(0), dim = Tensor(x).dim(1);
  for (const auto kind : {ActivationScales::kPerGroup, ActivationScales::kPerToken}) {
    const bool per_token = kind == ActivationScales::kPerToken;
    const OwnedTensor codes = golden[per_token ? "x_row_codes" : "x_codes"],
                      scales = golden[per_token ? "x_row_scales" : "x_scales"];
    const OwnedActivation out({DType::kE4M3, kind}, tokens, dim);
    for (int64_t t = 0; t < tokens; ++t) store_activation(Tensor(x).as<float>() + t * dim, dim, out, t);
    expect_same(out.data, codes);
    expect_same(out.scales, scales);
  }
}

TEST(Quantize, WeightsMatchTheGolden) {
  const Golden golden;
  const OwnedTensor w = golden["w"];
  for (const std::string kind : {"channel", "block"}) {
    const QuantizedMatrix q = quantize_matrix(w, kind == "block" ? WeightScales::kBlock : WeightScales::kChannel);
    const OwnedTensor codes = golden[(kind + "_codes").c_str()], scales = golden[(kind + "_scales").c_str()];
    expect_same(OwnedTensor::of(q.data, Tensor(codes).shape), codes);
    expect_same(OwnedTensor::of(q.scales, Tensor(scales).shape), scales);
  }
}

TEST(Quantize, KvVectorsMatchTheGolden) {
  const Golden golden;
  const OwnedTensor kv = golden["kv"], codes = golden["kv_codes"], scales = golden["kv_scales"];
  const OwnedTensor q(DType::kE4M3, Tensor(kv).shape), s(DType::kF32, Tensor(scales).shape);
  for (int64_t i = 0; i < Tensor(kv).dim(0); ++i) {
    Tensor(s).as<float>()[i] = quantize_group(Tensor(kv).as<float>() + i * 72, 72, Tensor(q).as<E4M3>() + i * 72);
  }
  expect_same(q, codes);
  expect_same(s, scales);
}

TEST(Quantize, ProductsMatchTheGolden) {
  const Golden golden;
  const OwnedTensor x = golden["x"];
  for (const std::string kind : {"channel", "block"}) {
    const bool block = kind == "block";
    const OwnedTensor x_codes = golden[block ? "x_codes" : "x_row_codes"],
                      x_scales = golden[block ? "x_scales" : "x_row_scales"];
    const OwnedTensor codes = golden[(kind + "_codes").c_str()], scales = golden[(kind + "_scales").c_str()],
                      expected = golden[(kind + "_out").c_str()];
    const HostMatrix part{codes, block ? WeightScales::kBlock : WeightScales::kChannel, scales};
    auto backend = make_cpu_backend(DType::kF32, 2);
    const LinearWeight w = backend->load_linear("w", {&part, 1}, {}, LinearFormat::kAsStored).value();
    const OwnedTensor out(DType::kF32, Tensor(expected).shape);
    backend->ops().linear({{x_codes, x_scales}, &w, out});
    const int64_t tokens = Tensor(x).dim(0), in = Tensor(x).dim(1), out_dim = w.out();
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t o = 0; o < out_dim; ++o) {
        double magnitude = 0;
        for (int64_t k = 0; k < in; ++k) {
          const double w_scale = block ? scales[o / 128 * 2 + k / 128] : scales[o];
          const double x_scale = x_scales[(block ? k / 128 * tokens : 0) + t];
          magnitude += std::fabs(double(x_codes[t * in + k]) * codes[o * in + k] * x_scale * w_scale);
        }
        ASSERT_NEAR(out[t * out_dim + o], expected[t * out_dim + o], magnitude * 1e-6) << kind << " " << t << " " << o;
      }
    }
  }
}

TEST(Quantize, EndsOfTheRange) {
  E4M3 q[4];
  const float zeros[4] = {0, -0.0f, 0, 0};
  EXPECT_EQ(quantize_group(zeros, 4, q), 1.0f);
  EXPECT_EQ(q[0].bits, 0x00);
  EXPECT_EQ(q[1].bits, 0x80);
  const float tiny[4] = {1e-37f, 0, -1e-38f, 0};  // 448 / 1e-37 is beyond float32: nothing is left, and nothing is NaN
  EXPECT_EQ(quantize_group(tiny, 4, q), 1.0f);
  EXPECT_EQ(q[0].bits, 0x00);
  EXPECT_EQ(q[2].bits, 0x80);
  const float nan[4] = {1, NAN, -2, 0.5f};  // a NaN stays one and leaves the others alone
  EXPECT_EQ(quantize_group(nan, 4, q), 2.0f / 448);
  EXPECT_EQ(q[0].bits, to_e4m3(224.0f).bits);
  EXPECT_TRUE(std::isnan(to_float(q[1])));
  EXPECT_EQ(q[2].bits, 0xFE);
}

}  // namespace
}  // namespace hearth
