// For tests: a backend that hands everything to another one, to be changed in a place or two.
#pragma once

#include <memory>
#include <utility>

#include "ops/backend.h"

namespace hearth {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::shared_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string name() const override { return inner_->name(); }
  Ops& ops() override { return inner_->ops(); }
  DType act() const override { return inner_->act(); }
  Shard shard() const override { return inner_->shard(); }
  void enter() override { inner_->enter(); }
  Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) override {
    return inner_->allocate(what, dtype, shape);
  }
  int64_t free_bytes() const override { return inner_->free_bytes(); }
  void upload(const Tensor& host, const Tensor& device) override { inner_->upload(host, device); }
  void download(const Tensor& device, const Tensor& host) override { inner_->download(device, host); }
  void zero(const Tensor& device) override { inner_->zero(device); }
  void synchronize() override { inner_->synchronize(); }
  Result<Tensor> load(std::string_view what, const Tensor& host, DType dtype) override {
    return inner_->load(what, host, dtype);
  }
  Result<LinearWeight> load_linear(std::string_view what, std::span<const HostMatrix> parts, const Tensor& bias,
                                   LinearFormat format) override {
    return inner_->load_linear(what, parts, bias, format);
  }
  Result<MlpWeights> load_mlp(std::string_view what, const HostMatrix& gate, const HostMatrix& up,
                              const HostMatrix& down, LinearFormat format) override {
    return inner_->load_mlp(what, gate, up, down, format);
  }
  Result<ExpertWeights> load_experts(std::string_view what, std::span<const HostMatrix> gate,
                                     std::span<const HostMatrix> up, std::span<const HostMatrix> down,
                                     LinearFormat format) override {
    return inner_->load_experts(what, gate, up, down, format);
  }
  int64_t expert_rows(int64_t num_tokens, int64_t top_k, int64_t num_experts) const override {
    return inner_->expert_rows(num_tokens, top_k, num_experts);
  }
  Status reserve_mlp(const MlpWeights& weights, int64_t max_rows) override {
    return inner_->reserve_mlp(weights, max_rows);
  }
  Status reserve_experts(const ExpertWeights& weights, int64_t max_rows, int64_t top_k) override {
    return inner_->reserve_experts(weights, max_rows, top_k);
  }
  Status reserve_attention(const AttentionShape& shape, const LinearWeight& out, const StepLimits& limits) override {
    return inner_->reserve_attention(shape, out, limits);
  }

 private:
  const std::shared_ptr<Backend> inner_;
};

}  // namespace hearth
