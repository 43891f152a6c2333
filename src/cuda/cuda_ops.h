// The ops of one GPU, on one stream: grouped_gemm and fire_attention with the small kernels between them, and the
// memory that they need beside their arguments.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string_view>
#include <vector>

#include "cuda/exchange.h"
#include "cuda/fire_attention.h"
#include "cuda/grouped_gemm.h"
#include "cuda/launch_order.h"
#include "cuda/op_timer.h"
#include "ops/backend.h"

namespace hearth::cuda {

class CudaOps final : public Ops {
 public:
  CudaOps() = default;
  ~CudaOps() override;
  // `exchange`: with other ranks, or null; outlives this.
  Status init(cudaStream_t stream, int multiprocessors, const Exchange* exchange);
  // Times every op issued from now on; null: none.
  void set_timer(OpTimer* timer) { timer_ = timer; }

  // As Backend's functions of these names.
  Status reserve_mlp(Backend& backend, const MlpWeights& weights, int64_t max_rows);
  Status reserve_experts(Backend& backend, const ExpertWeights& weights, int64_t max_rows, int64_t top_k);
  Status reserve_attention(Backend& backend, const AttentionShape& shape, const LinearWeight& out,
                           const StepLimits& limits);
  int64_t max_prompt_blocks() const { return max_prompt_blocks_; }

  void begin(const BeginArgs& args) override;
  void embed(const EmbedArgs& args) override;
  void norm(const NormArgs& args) override;
  void linear(const LinearArgs& args) override;
  void mlp(const MlpArgs& args) override;
  void rope_append_kv(const RopeAppendKvArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void route(const RouteArgs& args) override;
  void experts(const ExpertsArgs& args) override;
  void all_reduce(const AllReduceArgs& args) override;
  void all_gather(const AllGatherArgs& args) override;
  void all_reduce_norm(const AllReduceArgs& sum, const NormArgs& args) override;
  void sample(const SampleArgs& args) override;

 private:
  // One dense product over the rows of `in`.
  void product(const LinearWeight& weight, Epilogue epilogue, const Activation& in, const Activation& out,
               const Tensor& num_rows);
  void quantize(const Tensor& in, const Activation& out, const Tensor& num_rows, int64_t rows_each);
  // Of one shape, for steps of up to so many tokens and sequences.
  struct Attention {
    AttentionShape shape;
    FireAttentionShape step;
    std::unique_ptr<FireAttention> kernels;
    bool planned = false, ran = false;  // in this step
  };
  Attention& attention_of(const AttentionShape& shape);

  // Issues one op, timed where a timer is set.
  template <typename Issue>
  void timed(const OpTime& op, Issue&& issue) {
    issue();
    if (timer_) timer_->finished(op, stream_);
  }

  // In a debug build: an op that may not follow those before it ends the process.
  template <typename Launches>
  void keep_order(const Launches& launches);

  LaunchOrder order_;
  cudaStream_t stream_ = nullptr;
  OpTimer* timer_ = nullptr;
  int multiprocessors_ = 0;
  const Exchange* exchange_ = nullptr;
  uint32_t* route_finished_ = nullptr;
  int32_t* counting_ = nullptr;  // 0, 1, 2, ...: numbers of rows that the host knows, where a kernel reads them
  Scratch scratch_;
  std::vector<Attention> attentions_;
  int64_t max_prompt_blocks_ = 0;
  std::vector<void*> memory_;
};

}  // namespace hearth::cuda
