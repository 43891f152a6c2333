// Backend: a device's memory and its Ops. Weights come in as views of the checkpoint and leave in the layout its ops
// want.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/scratch.h"
#include "tensor/host_matrix.h"
#include "tensor/shard.h"

namespace hearth {

enum class LinearFormat {
  kAsStored,          // 16 bit stays 16 bit; e4m3 runs in FP8 with activations quantized on the fly
  kQuantize,          // 16 bit is quantized to e4m3 per output channel and runs in FP8; e4m3 as stored
  kWeightOnly,        // weights as kQuantize would have them, activations stay 16 or 32 bit
  kStoredWeightOnly,  // weights as stored, activations stay 16 or 32 bit
};
constexpr bool quantizes_weights(LinearFormat f) {
  return f == LinearFormat::kQuantize || f == LinearFormat::kWeightOnly;
}
constexpr bool keeps_activations(LinearFormat f) {
  return f == LinearFormat::kWeightOnly || f == LinearFormat::kStoredWeightOnly;
}

// One op of a profiled step: its time and its floor. The floor is each byte that it reads or writes moved once, and a
// product's multiply-adds in the type of its operands.
struct OpTime {
  std::string name;
  double seconds = 0;
  double bytes = 0;
  double flops = 0;
  DType type = DType::kF32;
};

// A run on the device's own clock: its time, and how long the device was idle between the previous run and this one.
struct RunTime {
  double seconds = 0, gap = 0;
};

// The sizes of a model that a backend's kernels must support.
struct ModelShape {
  int64_t hidden = 0, intermediate = 0, vocab = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0, rotary = 0;
  int64_t window = 0;                          // of attention, in tokens; 0: all positions
  bool norms_heads = false;                    // q and k are normed before they are rotated
  bool norms_all_heads = false;                // one norm over all heads of q, and one over those of k
  int64_t experts = 0, experts_per_token = 0;  // 0 for a dense model
  int64_t shared_intermediate = 0;             // of an expert that every token takes, as well as the chosen ones
  DType kv = DType::kF32;                      // of the cache
};

// The most that a step holds.
struct StepLimits {
  int64_t max_tokens = 0, max_sequences = 0, max_logits = 0, max_logprobs = 0;
  int64_t max_model_len = 0;  // tokens of a sequence
};

constexpr float kRandomWeightDeviation = 0.02f;
constexpr float kRandomE4M3Deviation = kE4M3Max / 4;  // of e4m3 values, so that a row's largest is about 448

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  virtual Ops& ops() = 0;
  virtual DType act() const = 0;
  // Which rank of a model this is, and so which part it loads.
  virtual Shard shard() const { return {}; }
  // A thread calls this before it uses the backend. With several devices, a thread works on one at a time.
  virtual void enter() {}

  // Refuses a shape or limit that no kernel takes, in one line that names it. Called before anything is allocated.
  virtual Status check(const ModelShape&, const StepLimits&) const { return {}; }

  // Memory that lives as long as the backend. kResourceExhausted says what it was for, the needed and the free bytes.
  virtual Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) = 0;
  virtual int64_t free_bytes() const = 0;
  // Ordered with the ops. The host side may be reused on return.
  virtual void upload(const Tensor& host, const Tensor& device) = 0;
  virtual void download(const Tensor& device, const Tensor& host) = 0;
  virtual void zero(const Tensor& device) = 0;
  virtual void synchronize() = 0;

  // Running a step without waiting for the device. The defaults are for backends whose ops run on the calling thread.
  // Host memory that the device itself can copy from and to. It lives as long as the backend.
  virtual Result<Tensor> allocate_host(std::string_view what, DType dtype, Shape shape) {
    return allocate(what, dtype, shape);
  }
  // As upload and download, but queued. `host` comes from allocate_host. The caller leaves it alone until the device
  // has passed a later mark().
  virtual void enqueue_upload(const Tensor& host, const Tensor& device) { upload(host, device); }
  virtual void enqueue_download(const Tensor& device, const Tensor& host) { download(device, host); }
  // Queues the ops that `record` issues. They depend on `key` alone (a runner's fixed buffers, a bucket's sizes). So a
  // GPU captures them into a graph the first time it sees the key. From then on it replays the graph and does not call
  // `record`.
  virtual void run(int64_t key, const std::function<void()>& record) {
    (void)key;
    record();
  }
  // Runs the ops that `record` issues repeatedly and returns the median time of each. Empty: the backend cannot measure
  // them. The ops do not overlap here, so their sum is more than run() takes. `ready` is called before the first run:
  // ranks wait for each other there, with nothing left to prepare.
  virtual std::vector<OpTime> profile(const std::function<void()>& record, const std::function<void()>& ready) {
    ready();
    record();
    return {};
  }
  // mark() names this point of the queue. wait() returns when the device has passed it, with the time of the last run()
  // before it if the device keeps a clock. An error of the calls above, or of the ops that they queued, is kept and
  // returned by wait(). It is final: the device has failed, and later calls do nothing.
  virtual int64_t mark() { return 0; }
  virtual Result<std::optional<RunTime>> wait(int64_t mark) {
    (void)mark;
    synchronize();
    return std::optional<RunTime>();
  }

  // Weights. A host tensor with a shape and no data stands for random weights (`--load-format dummy`), made by the
  // backend. A vector is all ones. A matrix is normal with deviation kRandomWeightDeviation, whatever its type. Where
  // e4m3 with scales is stored, the stored values have kRandomE4M3Deviation.
  // A vector or table, converted to `dtype`.
  virtual Result<Tensor> load(std::string_view what, const Tensor& host, DType dtype) = 0;
  // Stacks matrices by rows into one (q, k and v). If their scales differ in form, all get the finest form, which holds
  // the others exactly. `bias` is f32 [out], or empty.
  virtual Result<LinearWeight> load_linear(std::string_view what, std::span<const HostMatrix> parts, const Tensor& bias,
                                           LinearFormat format) = 0;
  virtual Result<MlpWeights> load_mlp(std::string_view what, const HostMatrix& gate, const HostMatrix& up,
                                      const HostMatrix& down, LinearFormat format) = 0;
  // One entry an expert.
  virtual Result<ExpertWeights> load_experts(std::string_view what, std::span<const HostMatrix> gate,
                                             std::span<const HostMatrix> up, std::span<const HostMatrix> down,
                                             LinearFormat format) = 0;
  // The most rows that num_tokens * top_k pairs can take, with this backend's padding between experts.
  virtual int64_t expert_rows(int64_t num_tokens, int64_t top_k, int64_t num_experts) const = 0;

  // Memory that lasts from one op to the next. Layers run one after another and share it: a second request for the same
  // name gets the same memory.
  // The input of `reader`, in the form it reads.
  Result<Activation> input_of(std::string_view what, const LinearWeight& reader, int64_t max_rows) {
    return scratch_.reserve(*this, what, reader.input, max_rows, reader.in());
  }
  // Rows of `dim` channels in the act type.
  Result<Tensor> rows_of(std::string_view what, int64_t max_rows, int64_t dim) {
    HEARTH_ASSIGN(const Activation memory, scratch_.reserve(*this, what, {act()}, max_rows, dim));
    return memory.data;
  }
  // Scratch memory of ops, for steps of up to `max_rows` rows, or of `limits`.
  virtual Status reserve_mlp(const MlpWeights& weights, int64_t max_rows) = 0;
  virtual Status reserve_experts(const ExpertWeights& weights, int64_t max_rows, int64_t top_k) = 0;
  // `out`: the layer that reads the result.
  virtual Status reserve_attention(const AttentionShape& shape, const LinearWeight& out, const StepLimits& limits) {
    (void)shape, (void)out, (void)limits;
    return {};
  }
  // The most KV blocks that the prompts of one step may have in all. A prompt counts its blocks up to its last token in
  // this step. One prompt of max_model_len always fits. 0: no limit. Known once attention is reserved.
  virtual int64_t max_prompt_blocks() const { return 0; }

 private:
  Scratch scratch_;
};

}  // namespace hearth
