// The CPU's ops with an eye on what products read: their arguments, and what mlp and experts leave in scratch memory.
#include "quantize/calibrate.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "cpu/cpu_backend.h"
#include "cpu/cpu_ops.h"
#include "cpu/simd.h"
#include "models/single_sequence.h"

namespace hearth {
namespace {

constexpr int64_t kChunk = 64;  // tokens and rows of logits a step

class ObservedOps final : public Ops {
 public:
  ObservedOps(CpuOps& ops, const std::vector<LoadedMatrices>& matrices) : ops_(ops) {
    for (const LoadedMatrices& m : matrices) {
      names_[m.data] = m.names;
      for (const std::string& name : m.names) largest_[name] = 0;
    }
  }
  std::map<std::string, float>& largest() { return largest_; }

  void begin(const BeginArgs& args) override { ops_.begin(args); }
  void embed(const EmbedArgs& args) override { ops_.embed(args); }
  void norm(const NormArgs& args) override { ops_.norm(args); }
  void rope_append_kv(const RopeAppendKvArgs& args) override { ops_.rope_append_kv(args); }
  void attention(const AttentionArgs& args) override { ops_.attention(args); }
  void route(const RouteArgs& args) override { ops_.route(args); }
  void sample(const SampleArgs& args) override { ops_.sample(args); }

  void linear(const LinearArgs& args) override {
    observe(args.weight->data, args.in.data);
    ops_.linear(args);
  }
  void mlp(const MlpArgs& args) override {
    const LinearWeight& down = args.weights->down;
    observe(args.weights->gate_up.data, args.in.data);
    ops_.mlp(args);
    observe(down.data,
            ops_.scratch().product(CpuOps::kMlpProduct, down.input, down.in()).rows(args.out.dim(0)).out.data);
  }
  void experts(const ExpertsArgs& args) override {
    const ExpertWeights& w = *args.weights;
    ops_.experts(args);
    const Tensor in = ops_.scratch().get(CpuOps::kExpertInput, w.input, w.gate_up.dim(2)).data;
    const Tensor between = ops_.scratch().product(CpuOps::kExpertProduct, w.down_input, w.down.dim(2)).out.data;
    const int64_t experts = args.routing->starts.dim(0);
    for (int64_t e = 0; e < experts; ++e) {
      const int64_t first = args.routing->starts.as<int32_t>()[e], count = args.routing->ends.as<int32_t>()[e] - first;
      observe(w.gate_up, in.rows(first, count), e, experts);
      observe(w.down, between.rows(first, count), e, experts);
    }
  }

 private:
  // The matrices behind `weight`, or those of one of so many experts, read these rows.
  void observe(const Tensor& weight, const Tensor& rows, int64_t expert = 0, int64_t experts = 1) {
    const auto at = names_.find(weight.data);
    if (at == names_.end()) return;  // the head
    const float largest = simd::max_abs(rows.as<float>(), rows.shape.elements());
    const int64_t each = std::ssize(at->second) / experts;
    for (int64_t i = expert * each; i < (expert + 1) * each; ++i) {
      float& known = largest_[at->second[static_cast<size_t>(i)]];
      known = std::max(known, largest);
    }
  }

  CpuOps& ops_;
  std::map<const void*, std::vector<std::string>> names_;
  std::map<std::string, float> largest_;
};

// Experts that read nothing get what the others of their kind read at most; returns how many there were.
int64_t fill_unread(const std::vector<LoadedMatrices>& matrices, std::map<std::string, float>& largest) {
  int64_t unread = 0;
  for (const LoadedMatrices& m : matrices) {
    float most = 0;
    for (const std::string& name : m.names) most = std::max(most, largest[name]);
    for (const std::string& name : m.names) {
      if (largest[name] > 0) continue;
      largest[name] = most;
      ++unread;
    }
  }
  return unread;
}

}  // namespace

Result<std::map<std::string, float>> largest_inputs(const OpenedModel& opened, std::span<const int32_t> tokens,
                                                    const CalibrationOptions& options) {
  if (tokens.empty()) return invalid("calibration: expected a text of at least a token");
  const std::unique_ptr<Backend> backend = make_cpu_backend(DType::kF32, options.threads);
  HEARTH_ASSIGN(const LoadedModel loaded, load_model(opened, *backend, {.max_tokens = kChunk, .max_logits = kChunk}));
  ObservedOps ops(dynamic_cast<CpuOps&>(backend->ops()), loaded.matrices);
  const int64_t window = std::min(options.window, loaded.model->max_model_len());
  HEARTH_ASSIGN(SingleSequence sequence, SingleSequence::create(*backend, *loaded.model, window, kChunk, kChunk, &ops));
  const int64_t total = std::ssize(tokens);
  for (int64_t begin = 0; begin < total;) {
    if (options.stop != nullptr && *options.stop) return Status(Code::kCancelled, "stopped by a signal");
    if (begin % window == 0) sequence.clear();
    const int64_t n = std::min({kChunk, window - begin % window, total - begin});
    // Of every token logits: behind the last layer's attention others do not go on.
    sequence.append(tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(n)), true, n);
    begin += n;
    if (options.progress) options.progress(begin, total);
  }
  std::map<std::string, float> out = std::move(ops.largest());
  for (const auto& [name, largest] : out) {
    if (!std::isfinite(largest)) return invalid("calibration: ", name, ": expected finite inputs, found others");
  }
  if (const int64_t unread = fill_unread(loaded.matrices, out); unread > 0) {
    log_warning("calibration: ", unread, " matrices read nothing; they get the largest of their layer's other experts");
  }
  return out;
}

}  // namespace hearth
