// The CPU's ops with an eye on what products read: their arguments, and what mlp and experts leave in scratch memory.
// The text goes through a layer at a time, as through a model of that layer alone, so that one layer's weights are in
// memory.
#include "quantize/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/log.h"
#include "cpu/cpu_backend.h"
#include "cpu/cpu_ops.h"
#include "cpu/simd.h"
#include "models/single_sequence.h"

namespace hearth {
namespace {

constexpr int64_t kChunk = 64;  // tokens and rows of logits a step

// A layer of a checkpoint as the only one. Behind the first, embedding and head are a row that nobody reads.
class OneLayer final : public Checkpoint {
 public:
  OneLayer(std::shared_ptr<const Checkpoint> all, size_t layer)
      : all_(std::move(all)), from_(cat("layers.", layer, ".")) {
    path_ = all_->path();
    for (const auto& [name, entry] : all_->entries()) {
      if (name.starts_with(from_)) {
        entries_.emplace(cat(kOnly, name.substr(from_.size())), entry);
      } else if (!name.starts_with("layers.")) {
        entries_.emplace(name, entry);
        if (layer > 0 && is_table(name)) entries_.find(name)->second.shape = {1, entry.shape[1]};
      }
    }
  }
  // What the whole checkpoint calls it.
  std::string name_in_all(std::string_view name) const {
    return name.starts_with(kOnly) ? cat(from_, name.substr(kOnly.size())) : std::string(name);
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    return all_->read_rows(name_in_all(name), first, count);
  }
  Result<HostTensor> read_part(std::string_view name, const MatrixPart& part) const override {
    return all_->read_part(name_in_all(name), part);
  }
  Status expect(std::string_view name, const Shape& expected) const override {
    return is_table(name) ? Checkpoint::expect(name, expected) : all_->expect(name_in_all(name), expected);
  }
  Status expect_matrix(std::string_view name, int64_t out, int64_t in) const override {
    return is_table(cat(name, ".weight")) ? Checkpoint::expect_matrix(name, out, in)
                                          : all_->expect_matrix(name_in_all(name), out, in);
  }
  std::string name_in_file(std::string_view name) const override { return all_->name_in_file(name_in_all(name)); }

 private:
  static constexpr std::string_view kOnly = "layers.0.";
  static bool is_table(std::string_view name) { return name == "embedding.weight" || name == "head.weight"; }

  const std::shared_ptr<const Checkpoint> all_;
  const std::string from_;
};

class ObservedOps final : public Ops {
 public:
  // `states`: f32 [tokens, hidden], what the layer before left of each token, and then this one.
  ObservedOps(CpuOps& ops, const std::vector<LoadedMatrices>& matrices, const Tensor& states, bool first_layer)
      : ops_(ops), states_(states), first_layer_(first_layer) {
    for (const LoadedMatrices& m : matrices) {
      names_[m.data] = m.names;
      for (const std::string& name : m.names) largest_[name] = 0;
    }
  }
  const std::map<std::string, float>& largest() const { return largest_; }
  // The next step is of tokens from here on.
  void go_to(int64_t token) { token_ = token; }

  void begin(const BeginArgs& args) override { ops_.begin(args); }
  void embed(const EmbedArgs& args) override {
    if (first_layer_) return ops_.embed(args);
    const Tensor from = states_.rows(token_, args.out.dim(0));
    std::memcpy(args.out.data, from.data, static_cast<size_t>(from.bytes()));
  }
  void norm(const NormArgs& args) override {
    ops_.norm(args);
    sums_ = args.residual;
  }
  void rope_append_kv(const RopeAppendKvArgs& args) override { ops_.rope_append_kv(args); }
  void attention(const AttentionArgs& args) override { ops_.attention(args); }
  void route(const RouteArgs& args) override { ops_.route(args); }
  void sample(const SampleArgs& args) override { ops_.sample(args); }

  void linear(const LinearArgs& args) override {
    if (!names_.contains(args.weight->data.data)) {  // the head: what stood before the last norm is the layer's result
      std::memcpy(states_.rows(token_, sums_.dim(0)).data, sums_.data, static_cast<size_t>(sums_.bytes()));
      return;
    }
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
    HEARTH_CHECK(at != names_.end());
    const float largest = simd::max_abs(rows.as<float>(), rows.shape.elements());
    const int64_t each = std::ssize(at->second) / experts;
    for (int64_t i = expert * each; i < (expert + 1) * each; ++i) {
      float& known = largest_[at->second[static_cast<size_t>(i)]];
      known = std::max(known, largest);
    }
  }

  CpuOps& ops_;
  const Tensor states_;
  const bool first_layer_;
  int64_t token_ = 0;
  Tensor sums_;  // of the last norm
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

struct LayerInputs {
  std::map<std::string, float> largest;  // by the names of the whole checkpoint
  int64_t unread = 0;
};

// Runs every window through one layer; `states` become what it makes of them.
Result<LayerInputs> largest_of_layer(const OpenedModel& all, size_t layer, std::span<const int32_t> tokens,
                                     const Tensor& states, const CalibrationOptions& options) {
  const auto checkpoint = std::make_shared<OneLayer>(all.checkpoint, layer);
  OpenedModel opened{all.path, all.config, checkpoint};
  opened.config.layers = {all.config.layers[layer]};
  if (layer > 0) opened.config.vocab = 1;
  const std::unique_ptr<Backend> backend = make_cpu_backend(DType::kF32, options.threads);
  HEARTH_ASSIGN(const LoadedModel loaded,
                load_model(std::move(opened), *backend, {.max_tokens = kChunk, .max_logits = kChunk}));
  ObservedOps ops(dynamic_cast<CpuOps&>(backend->ops()), loaded.matrices, states, layer == 0);
  const int64_t window = std::min(options.window, loaded.model->max_model_len()), total = std::ssize(tokens);
  HEARTH_ASSIGN(SingleSequence sequence, SingleSequence::create(*backend, *loaded.model, window, kChunk, kChunk, &ops));
  for (int64_t begin = 0; begin < total;) {
    if (options.stop != nullptr && *options.stop) return Status(Code::kCancelled, "stopped by a signal");
    if (begin % window == 0) sequence.clear();
    const int64_t n = std::min({kChunk, window - begin % window, total - begin});
    ops.go_to(begin);
    // Of every token logits: behind the last layer's attention others do not go on.
    sequence.append(tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(n)), true, n);
    begin += n;
    if (options.progress) options.progress(begin, total);
  }
  std::map<std::string, float> largest = ops.largest();
  LayerInputs out;
  out.unread = fill_unread(loaded.matrices, largest);
  for (const auto& [name, value] : largest) {
    const std::string in_all = checkpoint->name_in_all(name);
    if (!std::isfinite(value)) return invalid("calibration: ", in_all, ": expected finite inputs, found others");
    out.largest.emplace(in_all, value);
  }
  return out;
}

}  // namespace

Result<std::map<std::string, float>> largest_inputs(const OpenedModel& opened, std::span<const int32_t> tokens,
                                                    const CalibrationOptions& options) {
  if (tokens.empty()) return invalid("calibration: expected a text of at least a token");
  const int64_t total = std::ssize(tokens), layers = std::ssize(opened.config.layers);
  const std::unique_ptr<Backend> all = make_cpu_backend(DType::kF32, 1);
  HEARTH_ASSIGN(const Tensor states, all->allocate("calibration", DType::kF32, {total, opened.config.hidden}));
  HEARTH_TRY(
      linear_matrices(opened, *all).status());  // so that a fault in the last layer is found before the first runs
  std::map<std::string, float> out;
  int64_t unread = 0;
  for (int64_t layer = 0; layer < layers; ++layer) {
    CalibrationOptions of_layer = options;
    of_layer.progress = [&](int64_t done, int64_t) {
      if (options.progress) options.progress((layer * total + done) / layers, total);
    };
    HEARTH_ASSIGN(const LayerInputs inputs,
                  largest_of_layer(opened, static_cast<size_t>(layer), tokens, states, of_layer));
    out.insert(inputs.largest.begin(), inputs.largest.end());
    unread += inputs.unread;
  }
  if (unread > 0) {
    log_warning("calibration: ", unread, " matrices read nothing; they get the largest of their layer's other experts");
  }
  return out;
}

}  // namespace hearth
