// Records what is asked for.
#include "models/dummy_checkpoint.h"

#include <algorithm>

#include "ops/backend.h"
#include "tensor/host_matrix.h"

namespace hearth {
namespace {

// The gate's times up's values of random weights in Mixtral's shape reach 10 to 15, attention's a few times V's
// deviation of 1.3, and 28 can be held.
constexpr float kInputScale = 1.0f / 16;

class DummyCheckpoint final : public Checkpoint {
 public:
  explicit DummyCheckpoint(const ModelConfig& c) : dtype_(c.dtype), quantization_(c.quantization) {
    path_ = "dummy weights";
  }

  Status expect(std::string_view name, const Shape& expected) const override {
    if (!has(name)) HEARTH_TRY(add(name, dtype_, expected));
    return Checkpoint::expect(name, expected);
  }

  Status expect_matrix(std::string_view name, int64_t out, int64_t in) const override {
    const std::string weight = cat(name, ".weight");
    const bool mxfp4 = quantization_.mxfp4 && name.find(".experts.") != name.npos;  // which becomes e4m3
    if ((!quantization_.fp8 && !mxfp4) || has(weight)) return expect(weight, {out, in});
    HEARTH_TRY(add(weight, DType::kE4M3, {out, in}));
    if (quantization_.blocks) {
      const Shape blocks{ceil_div(out, kScaleGroup), ceil_div(in, kScaleGroup)};
      HEARTH_TRY(add(cat(name, ".weight_scale_inv"), DType::kF32, blocks));
    } else {
      HEARTH_TRY(add(cat(name, ".weight_scale"), DType::kF32, {}));
    }
    return quantization_.static_activations ? add(cat(name, ".input_scale"), DType::kF32, {}) : Status();
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t, int64_t count) const override {
    const Entry& entry = entries_.find(name)->second;
    const Shape shape{count, entry.columns()};
    if (name.ends_with(".bias")) return filled(shape, 0);
    if (name.ends_with(".input_scale")) return filled(shape, kInputScale);
    if (!name.ends_with(".weight")) return filled(shape, kRandomWeightDeviation / kRandomE4M3Deviation);
    return HostTensor{{nullptr, entry.dtype, shape}, nullptr};
  }

 private:
  static HostTensor filled(const Shape& shape, float value) {
    auto owner = std::make_shared_for_overwrite<float[]>(static_cast<size_t>(shape.elements()));
    std::fill_n(owner.get(), shape.elements(), value);
    return {{owner.get(), DType::kF32, shape}, owner};
  }

  // Refuses sizes that no machine holds.
  Status add(std::string_view name, DType dtype, const Shape& shape) const {
    constexpr size_t kMaxTensors = 1 << 20;
    constexpr double kMaxBytes = int64_t{1} << 46;
    bytes_ += static_cast<double>(shape.elements()) * static_cast<double>(dtype_size(dtype));
    if (bytes_ > kMaxBytes) return unimplemented(path_, ": expected at most 64 TiB, found more");
    if (entries_.size() == kMaxTensors) {
      return unimplemented(path_, ": expected at most ", kMaxTensors, " tensors, found more in all layers and experts");
    }
    entries_.emplace(std::string(name), Entry{dtype, shape, cat(path_, ": ", name)});
    return {};
  }

  const DType dtype_;
  const Quantization quantization_;
  mutable double bytes_ = 0;
};

}  // namespace

std::shared_ptr<const Checkpoint> make_dummy_checkpoint(const ModelConfig& config) {
  return std::make_shared<DummyCheckpoint>(config);
}

}  // namespace hearth
