// Models with random weights for tests, made from a config alone: the same weights at every opening, whoever reads them
// and in whatever parts.
#pragma once

#include <cmath>
#include <random>
#include <string>

#include "models/registry.h"
#include "tensor/host_matrix.h"
#include "weights/test_files.h"

namespace hearth {

// Has whatever is asked for, in bfloat16 values; matrices, where the config says FP8, in e4m3 with a scale for every
// 128x128 of them.
class RandomCheckpoint final : public Checkpoint {
 public:
  explicit RandomCheckpoint(const ModelConfig& config) : fp8_(config.quantization.fp8) { path_ = "random weights"; }

  Status expect(std::string_view name, const Shape& expected) const override {
    if (!has(name)) add(name, DType::kF32, expected);
    return Checkpoint::expect(name, expected);
  }
  Status expect_matrix(std::string_view name, int64_t out, int64_t in) const override {
    const std::string weight = cat(name, ".weight");
    if (!fp8_ || has(weight)) return expect(weight, {out, in});
    add(weight, DType::kE4M3, {out, in});
    add(cat(name, ".weight_scale_inv"), DType::kF32, {ceil_div(out, kScaleGroup), ceil_div(in, kScaleGroup)});
    return {};
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    const Entry& entry = entries_.find(name)->second;
    const int64_t columns = entry.columns(), bytes = dtype_size(entry.dtype);
    auto owner = std::make_shared_for_overwrite<uint8_t[]>(static_cast<size_t>(count * columns * bytes));
    for (int64_t row = 0; row < count; ++row) {
      std::mt19937_64 random(std::hash<std::string_view>()(name) * 31 + static_cast<uint64_t>(first + row));
      for (int64_t i = 0; i < columns; ++i) {
        const float value = draw(name, columns, random);
        uint8_t* const at = owner.get() + (row * columns + i) * bytes;
        if (entry.dtype == DType::kE4M3) {
          *at = to_e4m3(value).bits;
        } else {
          std::memcpy(at, &value, sizeof value);
        }
      }
    }
    return HostTensor{{owner.get(), entry.dtype, entry.shape.rank() < 2 ? Shape{count} : Shape{count, columns}}, owner};
  }

 private:
  void add(std::string_view name, DType dtype, const Shape& shape) const {
    entries_.emplace(std::string(name), Entry{dtype, shape, cat(path_, ": ", name)});
  }

  float draw(std::string_view name, int64_t columns, std::mt19937_64& random) const {
    std::normal_distribution<float> normal;
    const auto rounded = [](float v) { return to_float(to_bf16(v)); };
    if (name.ends_with("weight_scale_inv")) return 0.02f / 60 * (1 + 0.5f * std::abs(normal(random)));
    if (name.ends_with("norm.weight")) return rounded(1 + 0.2f * normal(random));
    if (name.ends_with(".bias")) return rounded(0.1f * normal(random));
    const float spread = 1.0f / std::sqrt(static_cast<float>(columns));
    if (name.ends_with("router.weight")) return rounded(4 * spread * normal(random));  // so that choices are clear
    if (name.ends_with("embedding.weight")) return rounded(normal(random));
    if (fp8_ && !name.ends_with("head.weight")) return 60 * normal(random);
    return rounded(spread * normal(random));
  }

  const bool fp8_;
};

// `config` is a config.json.
inline Result<OpenedModel> open_random_model(const std::string& config) {
  const test::TempFolder folder;
  folder.write("config.json", config);
  OpenedModel out;
  HEARTH_ASSIGN(out.config, read_config(folder.path()));
  out.path = "random";
  out.checkpoint = std::make_shared<RandomCheckpoint>(out.config);
  return out;
}

}  // namespace hearth
