// A tiny random mixture-of-experts model for the engine's tests, made through the backend's interface alone. One of its
// tokens has an embedding of NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "models/model.h"

namespace hearth {

class TestModel final : public Model {
 public:
  static constexpr int64_t kVocab = 200, kHidden = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kIntermediate = 48;
  static constexpr int64_t kLayers = 2, kExperts = 4, kTopK = 2, kMaxLen = 1024;
  static constexpr int32_t kNanToken = kVocab - 1;

  static Result<std::shared_ptr<Model>> make(Backend& backend, int64_t max_tokens, int64_t max_logits) {
    auto model = std::make_shared<TestModel>();
    HEARTH_TRY(model->load(backend, max_tokens, max_logits));
    return std::shared_ptr<Model>(std::move(model));
  }

  std::string architecture() const override { return "test"; }
  int64_t vocab_size() const override { return kVocab; }
  int64_t max_model_len() const override { return kMaxLen; }
  std::vector<KvSpec> kv_specs() const override { return std::vector<KvSpec>(kLayers, {kKvHeads, kHeadDim, act_}); }

  void forward(Ops& ops, const Batch& batch, const KvCache& cache, Tensor logits) override {
    const int64_t n = batch.num_tokens, m = batch.num_logits;
    const Tensor x = residual_.rows(0, n), delta = delta_.rows(0, n), normed = normed_.rows(0, n);
    const Tensor qkv = qkv_.rows(0, n), attended = attended_.rows(0, n);
    Routing routing = routing_;
    for (Tensor* t : {&routing.experts, &routing.weights, &routing.rows}) *t = t->rows(0, n);
    const AttentionShape shape{kHeads, kKvHeads, kHeadDim, 0, act_};
    ops.begin({&batch, {&shape, 1}});
    ops.embed({batch.token_ids, batch.previous_tokens, embedding_, x});
    for (int64_t i = 0; i < kLayers; ++i) {
      const Layer& layer = layers_[i];
      ops.norm({x, i == 0 ? Tensor{} : expert_out_, norm_, 1e-5f, {normed, {}}, {}, {}, &routing});
      ops.linear({{normed, {}}, &layer.qkv, qkv});
      ops.rope_append_kv({qkv, batch.positions, batch.slots, cos_sin_, kHeads, kKvHeads, kHeadDim, cache[i], {}, {}});
      ops.attention({qkv, &batch, shape, 0.25f, cache[i], {attended, {}}});
      ops.linear({{attended, {}}, &layer.out, delta});
      ops.norm({x, delta, norm_, 1e-5f, {normed, {}}, {}});
      ops.route({normed, layer.router, batch.true_tokens(), {true}, routing});
      ops.experts({normed, batch.true_tokens(), &routing, &layer.experts, expert_out_});
    }
    const Tensor last = last_.rows(0, m);
    ops.norm({x, expert_out_, norm_, 1e-5f, {last, {}}, {}, {}, &routing, batch.logit_rows});
    ops.linear({{last, {}}, &head_, logits});
  }

 private:
  struct Layer {
    LinearWeight qkv, out;
    Tensor router;
    ExpertWeights experts;
  };

  // Weights live here until the backend has taken them.
  HostMatrix random(int64_t rows, int64_t columns, float spread) {
    std::normal_distribution<float> normal(0, spread);
    host_.emplace_back(rows * columns);
    for (float& value : host_.back()) value = normal(generator_);
    return {{host_.back().data(), DType::kF32, {rows, columns}}, WeightScales::kNone, {}};
  }

  Status load(Backend& backend, int64_t max_tokens, int64_t max_logits) {
    act_ = backend.act();
    const float spread = 0.2f;
    HostMatrix table = random(kVocab, kHidden, 1);
    std::fill_n(table.data.as<float>() + kNanToken * kHidden, kHidden, std::numeric_limits<float>::quiet_NaN());
    HEARTH_ASSIGN(embedding_, backend.load("embedding", table.data, act_));
    const std::vector<float> ones(kHidden, 1.0f);
    HEARTH_ASSIGN(norm_, backend.load("norm", {const_cast<float*>(ones.data()), DType::kF32, {kHidden}}, DType::kF32));
    std::vector<float> cos_sin;
    for (int64_t position = 0; position < kMaxLen; ++position) {
      for (int64_t part : {0, 1}) {
        for (int64_t i = 0; i < kHeadDim / 2; ++i) {
          const double angle =
              static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / kHeadDim);
          cos_sin.push_back(static_cast<float>(part == 0 ? std::cos(angle) : std::sin(angle)));
        }
      }
    }
    HEARTH_ASSIGN(cos_sin_, backend.load("rope", {cos_sin.data(), DType::kF32, {kMaxLen, kHeadDim}}, DType::kF32));
    for (Layer& layer : layers_) {
      const HostMatrix qkv[] = {random((kHeads + 2 * kKvHeads) * kHeadDim, kHidden, spread)};
      const HostMatrix out[] = {random(kHidden, kHeads * kHeadDim, spread)};
      HEARTH_ASSIGN(layer.qkv, backend.load_linear("qkv", qkv, {}, LinearFormat::kAsStored));
      HEARTH_ASSIGN(layer.out, backend.load_linear("out", out, {}, LinearFormat::kAsStored));
      HEARTH_ASSIGN(layer.router, backend.load("router", random(kExperts, kHidden, spread).data, DType::kF32));
      std::vector<HostMatrix> gate, up, down;
      for (int64_t e = 0; e < kExperts; ++e) {
        gate.push_back(random(kIntermediate, kHidden, spread));
        up.push_back(random(kIntermediate, kHidden, spread));
        down.push_back(random(kHidden, kIntermediate, spread));
      }
      HEARTH_ASSIGN(layer.experts, backend.load_experts("experts", gate, up, down, LinearFormat::kAsStored));
    }
    const HostMatrix head[] = {random(kVocab, kHidden, spread)};
    HEARTH_ASSIGN(head_, backend.load_linear("head", head, {}, LinearFormat::kAsStored));
    host_.clear();

    auto rows = [&](Tensor& out, int64_t count, int64_t dim, DType dtype) -> Status {
      HEARTH_ASSIGN(out, backend.allocate("activations", dtype, {count, dim}));
      return {};
    };
    const int64_t expert_rows = backend.expert_rows(max_tokens, kTopK, kExperts);
    for (Tensor* t : {&residual_, &delta_, &normed_}) HEARTH_TRY(rows(*t, max_tokens, kHidden, act_));
    HEARTH_TRY(rows(qkv_, max_tokens, (kHeads + 2 * kKvHeads) * kHeadDim, act_));
    HEARTH_TRY(rows(attended_, max_tokens, kHeads * kHeadDim, act_));
    for (const Layer& layer : layers_) HEARTH_TRY(backend.reserve_experts(layer.experts, max_tokens, kTopK));
    HEARTH_TRY(rows(expert_out_, expert_rows, kHidden, act_));
    HEARTH_TRY(rows(last_, max_logits, kHidden, act_));
    HEARTH_TRY(rows(routing_.experts, max_tokens, kTopK, DType::kI32));
    HEARTH_TRY(rows(routing_.weights, max_tokens, kTopK, DType::kF32));
    HEARTH_TRY(rows(routing_.rows, max_tokens, kTopK, DType::kI32));
    HEARTH_ASSIGN(routing_.starts, backend.allocate("routing", DType::kI32, {kExperts}));
    HEARTH_ASSIGN(routing_.ends, backend.allocate("routing", DType::kI32, {kExperts}));
    return {};
  }

  std::mt19937 generator_{20240108};
  std::vector<std::vector<float>> host_;
  DType act_ = DType::kF32;
  Tensor embedding_, norm_, cos_sin_;
  Layer layers_[kLayers];
  LinearWeight head_;
  Tensor residual_, delta_, normed_, qkv_, attended_, expert_out_, last_;
  Routing routing_;
};

}  // namespace hearth
