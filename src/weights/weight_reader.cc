// Finds a matrix's scales by name and shape, checks each value, and brings them to channel or block form.
#include "weights/weight_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace hearth {
namespace {

bool is_float(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

// What checkpoints carry and no forward pass reads: rotary tables, scales of quantized queries and probabilities.
bool is_harmless(std::string_view name) {
  for (const std::string_view end : {".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached",
                                     ".q_scale", ".prob_scale", ".q.output_scale"}) {
    if (name.ends_with(end)) return true;
  }
  return name == "rope_freqs.weight";
}

template <typename T>
void widen(const Tensor& from, float* out) {
  const T* in = from.as<T>();
  const int64_t n = from.shape.elements();
  for (int64_t i = 0; i < n; ++i) out[i] = to_float(in[i]);
}

HostTensor new_floats(const Shape& shape) {
  HostTensor out;
  auto memory = std::make_shared_for_overwrite<float[]>(static_cast<size_t>(shape.elements()));
  out.view = {memory.get(), DType::kF32, shape};
  out.owner = std::move(memory);
  return out;
}

}  // namespace

void to_float32(const Tensor& from, float* out) {
  switch (from.dtype) {
    case DType::kF32: std::copy_n(from.as<float>(), from.shape.elements(), out); return;
    case DType::kF16: return widen<F16>(from, out);
    case DType::kBF16: return widen<BF16>(from, out);
    case DType::kE4M3: return widen<E4M3>(from, out);
    default: HEARTH_CHECK(false);
  }
}

void OwnedMatrix::scale(float factor) {
  float* scales = matrix.scales.as<float>();
  for (int64_t i = 0; i < matrix.scales.shape.elements(); ++i) scales[i] *= factor;
}

bool OwnedMatrix::fixes_input_scale() const {
  constexpr float kLeast = 1e-30f;  // its inverse is a float too
  return matrix.kind == WeightScales::kChannel && input_scale > kLeast && input_scale < 1 / kLeast;
}

float OwnedMatrix::use_input_scale() {
  const float scale = input_scale * (kE4M3Max / kRowE4M3Max);  // theirs brings the largest to kE4M3Max
  this->scale(scale);
  matrix.scales_input = true;
  return 1.0f / scale;
}

void use_input_scales(std::span<OwnedMatrix> gates, std::span<OwnedMatrix> ups, std::span<OwnedMatrix> downs) {
  for (size_t e = 0; e < downs.size(); ++e) {
    for (const OwnedMatrix* m : {&gates[e], &ups[e]}) {
      if (m->matrix.kind != WeightScales::kChannel) return;
    }
    if (!downs[e].fixes_input_scale()) return;
  }
  for (size_t e = 0; e < downs.size(); ++e) ups[e].scale(downs[e].use_input_scale());
}

Result<HostTensor> WeightReader::floats(std::string_view name, const Shape& shape) {
  HEARTH_TRY(checkpoint_.expect(name, shape));
  const Checkpoint::Entry& entry = checkpoint_.entries().find(name)->second;
  if (!is_float(entry.dtype)) {
    return invalid(entry.source, ": expected float32, float16 or bfloat16, found ", dtype_name(entry.dtype));
  }
  used_.emplace(name);
  bytes_ += shape.elements() * dtype_size(entry.dtype);
  if (check_only_) return HostTensor{};
  return checkpoint_.read(name);
}

Result<HostTensor> WeightReader::weight(const std::string& weight, const MatrixPart& part) {
  used_.insert(weight);
  bytes_ += part.shape().elements() * dtype_size(checkpoint_.entries().find(weight)->second.dtype);
  if (check_only_) return HostTensor{};
  return checkpoint_.read_part(weight, part);
}

Result<OwnedMatrix> WeightReader::mxfp4(const std::string& weight, const MatrixPart& part) {
  used_.insert(weight);
  bytes_ += part.shape().elements();
  if (check_only_) return OwnedMatrix{};
  HEARTH_ASSIGN(const ScaledRows rows, checkpoint_.read_scaled(weight, part));
  mxfp4_rows_ += rows.scales.view.dim(0);
  rounded_mxfp4_rows_ += rows.rounded;
  return OwnedMatrix{.matrix = {rows.data.view, WeightScales::kChannel, rows.scales.view, false, /*mxfp4=*/true},
                     .data_owner = rows.data.owner,
                     .scales_owner = rows.scales.owner};
}

Result<OwnedMatrix> WeightReader::matrix(std::string_view name, int64_t out, int64_t in, const MatrixPart& part) {
  const std::string weight = cat(name, ".weight");
  HEARTH_TRY(checkpoint_.expect_matrix(name, out, in));
  OwnedMatrix result;
  const Checkpoint::Entry& entry = checkpoint_.entries().find(weight)->second;
  if (entry.mxfp4) return mxfp4(weight, part);
  if (entry.dtype == DType::kE4M3) {
    HEARTH_ASSIGN(result.input_scale, input_scale(name));
    HEARTH_ASSIGN(const HostTensor scales, this->scales(name, out, in, part, result.matrix.kind));
    result.matrix.scales = scales.view;
    result.scales_owner = scales.owner;
  } else if (!is_float(entry.dtype)) {
    return invalid(entry.source, ": expected float32, float16 or bfloat16, found ", dtype_name(entry.dtype));
  }
  HEARTH_ASSIGN(const HostTensor data, this->weight(weight, part));
  if (check_only_) return OwnedMatrix{};
  result.matrix.data = data.view;
  result.data_owner = data.owner;
  return result;
}

Result<OwnedMatrix> WeightReader::unquantized(std::string_view name, int64_t out, int64_t in, const MatrixPart& part) {
  HEARTH_TRY(checkpoint_.expect(cat(name, ".weight"), {out, in}));
  HEARTH_ASSIGN(OwnedMatrix stored, matrix(name, out, in, part));
  if (check_only_ || stored.matrix.kind == WeightScales::kNone) return stored;
  out = part.rows.size();
  in = part.columns.size();
  const HostTensor wide = new_floats({out, in});
  float* values = wide.view.as<float>();
  to_float32(stored.matrix.data, values);
  const float* scales = stored.matrix.scales.as<float>();
  const int64_t blocks = ceil_div(in, kScaleGroup);
  for (int64_t r = 0; r < out; ++r) {
    for (int64_t c = 0; c < in; ++c) {
      values[r * in + c] *=
          stored.matrix.kind == WeightScales::kChannel ? scales[r] : scales[r / kScaleGroup * blocks + c / kScaleGroup];
    }
  }
  return OwnedMatrix{.matrix = {wide.view}, .data_owner = wide.owner};
}

Result<HostTensor> WeightReader::all_scales(std::string_view name, int64_t out, int64_t in, WeightScales& kind) {
  const std::string plain = cat(name, ".weight_scale"), inverse = cat(name, ".weight_scale_inv");
  if (checkpoint_.has(plain) == checkpoint_.has(inverse)) {
    return invalid(checkpoint_.entries().find(cat(name, ".weight"))->second.source,
                   ": float8 weights: expected one of weight_scale and weight_scale_inv, found ",
                   checkpoint_.has(plain) ? "both" : "neither");
  }
  const std::string& scale_name = checkpoint_.has(plain) ? plain : inverse;
  const Checkpoint::Entry& entry = checkpoint_.entries().find(scale_name)->second;
  const Shape& shape = entry.shape;
  const Shape blocks{ceil_div(out, kScaleGroup), ceil_div(in, kScaleGroup)};
  const bool per_tensor = shape == Shape{} || shape == Shape{1} || shape == Shape{1, 1};
  const bool per_channel = shape == Shape{out} || shape == Shape{out, 1};
  if (!per_tensor && !per_channel && shape != blocks) {
    return invalid(entry.source, ": expected one scale, [", out, ", 1] or ", blocks, ", found ", shape);
  }
  HEARTH_ASSIGN(HostTensor values, positive_floats(scale_name));
  if (shape == blocks && !per_tensor && !per_channel) {
    kind = WeightScales::kBlock;
    return values;
  }
  kind = WeightScales::kChannel;
  if (per_channel) {
    values.view.shape = {out};
    return values;
  }
  const HostTensor spread = new_floats({out});
  std::fill_n(spread.view.as<float>(), out, *values.view.as<float>());
  return spread;
}

Result<HostTensor> WeightReader::scales(std::string_view name, int64_t out, int64_t in, const MatrixPart& part,
                                        WeightScales& kind) {
  HEARTH_ASSIGN(const HostTensor all, all_scales(name, out, in, kind));
  if (kind == WeightScales::kChannel) return HostTensor{all.view.rows(part.rows.begin, part.rows.size()), all.owner};
  const auto cuts = [](const Range& range, int64_t size) {
    return range.begin % kScaleGroup != 0 || (range.end % kScaleGroup != 0 && range.end != size);
  };
  if (cuts(part.rows, out) || cuts(part.columns, in)) {
    return invalid(checkpoint_.entries().find(cat(name, ".weight"))->second.source,
                   ": expected parts of whole 128x128 blocks for each rank, found one of ", part.shape(), " of ",
                   Shape{out, in});
  }
  const auto blocks_of = [](const Range& range) {
    return Range{range.begin / kScaleGroup, ceil_div(range.end, kScaleGroup)};
  };
  const MatrixPart blocks{blocks_of(part.rows), blocks_of(part.columns)};
  if (blocks.shape() == all.view.shape) return all;
  const HostTensor some = new_floats(blocks.shape());
  for (int64_t row = 0; row < blocks.rows.size(); ++row) {
    std::copy_n(all.view.rows(blocks.rows.begin + row, 1).as<float>() + blocks.columns.begin, blocks.columns.size(),
                some.view.rows(row, 1).as<float>());
  }
  return some;
}

Result<HostTensor> WeightReader::positive_floats(std::string_view name) {
  const Checkpoint::Entry& entry = checkpoint_.entries().find(name)->second;
  if (!is_float(entry.dtype)) {
    return invalid(entry.source, ": expected float32, float16 or bfloat16, found ", dtype_name(entry.dtype));
  }
  HEARTH_ASSIGN(const HostTensor stored, checkpoint_.read(name));
  used_.emplace(name);
  const HostTensor out = new_floats(entry.shape);
  to_float32(stored.view, out.view.as<float>());
  for (int64_t i = 0; i < entry.shape.elements(); ++i) {
    const float value = out.view.as<float>()[i];
    if (!(value > 0.0f) || !std::isfinite(value)) {
      return invalid(entry.source, ": expected scales above 0, found ", value, " at ", i);
    }
  }
  return out;
}

Result<float> WeightReader::input_scale(std::string_view name) {
  float scale = 0;
  for (const std::string_view suffix : {".input_scale", ".activation_scale"}) {
    const auto at = checkpoint_.entries().find(cat(name, suffix));
    if (at == checkpoint_.entries().end()) continue;
    if (at->second.shape.elements() != 1) {
      return invalid(at->second.source, ": expected one scale, found ", at->second.shape);
    }
    HEARTH_ASSIGN(const HostTensor value, positive_floats(at->first));
    scale = *value.view.as<float>();
    ++static_input_scales_;
  }
  return scale;
}

Result<HostTensor> WeightReader::kv_scale(std::string_view prefix, char which, int64_t kv_heads) {
  for (const std::string& name : {cat(prefix, "attention.", which, "_scale"), cat(prefix, which, ".", which, "_scale"),
                                  cat(prefix, which, ".output_scale"), cat(prefix, "attention.kv_scale")}) {
    const auto at = checkpoint_.entries().find(name);
    if (at == checkpoint_.entries().end()) continue;
    const int64_t found = at->second.shape.elements();
    if (found != 1 && found != kv_heads) {
      return invalid(at->second.source, ": expected one scale or ", kv_heads, ", found ", at->second.shape);
    }
    HEARTH_ASSIGN(HostTensor values, positive_floats(name));
    ++static_kv_scales_;
    values.view.shape = {kv_heads};
    if (found == kv_heads) return values;
    const HostTensor spread = new_floats({kv_heads});
    std::fill_n(spread.view.as<float>(), kv_heads, *values.view.as<float>());
    return spread;
  }
  return HostTensor{};
}

Status WeightReader::finish() const {
  for (const auto& [name, entry] : checkpoint_.entries()) {
    if (!used_.contains(name) && !is_harmless(name)) {
      return invalid(entry.source, ": expected no such tensor in this model, found ", entry.shape);
    }
  }
  return {};
}

}  // namespace hearth
