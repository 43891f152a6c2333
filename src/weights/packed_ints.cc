// Finds packed matrices by their names, and multiplies them out part by part.
#include "weights/packed_ints.h"

#include <cmath>
#include <type_traits>
#include <vector>

#include "base/log.h"

namespace hearth {
namespace {

// Where AWQ keeps columns 0 to 7 of a word of eight.
constexpr int kAwqPlaces[] = {0, 4, 1, 5, 2, 6, 3, 7};

struct Names {
  std::string_view codes, scales, zeros, groups;
};
Names names_of(PackedLayout layout) {
  if (layout == PackedLayout::kCompressedTensors) {
    return {".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_g_idx"};
  }
  return {".qweight", ".scales", ".qzeros", ".g_idx"};
}

class UnpackedCheckpoint final : public Checkpoint {
 public:
  UnpackedCheckpoint(std::shared_ptr<const Checkpoint> file, const PackedInts& how)
      : file_(std::move(file)), how_(how), names_(names_of(how.layout)), per_word_(32 / how.bits) {
    path_ = file_->path();
  }

  void report() const {
    if (matrices_.empty()) return;
    const DType dtype = entries_.find(matrices_.begin()->first)->second.dtype;
    log_info(path_, ": matrices of ", how_.bits, " bits (", matrices_.size(), ") become ", dtype_name(dtype),
             ", the values that their own format gives");
  }

  Status index() {
    for (const auto& [name, entry] : file_->entries()) {
      if (name.ends_with(names_.codes)) HEARTH_TRY(add(name.substr(0, name.size() - names_.codes.size()), entry));
    }
    for (const auto& [name, entry] : file_->entries()) {
      const size_t dot = name.rfind('.');
      const bool part = dot != name.npos && matrices_.contains(name.substr(0, dot) + ".weight") && is_part(name, dot);
      if (!part && !entries_.emplace(name, entry).second) {
        return invalid(entry.source, ": expected once, found packed too");
      }
    }
    return {};
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    if (!matrices_.contains(name)) return file_->read_rows(name, first, count);
    return read_part(name, {{first, first + count}, {0, entries_.find(name)->second.columns()}});
  }

  Result<HostTensor> read_part(std::string_view name, const MatrixPart& part) const override {
    const auto at = matrices_.find(name);
    if (at == matrices_.end()) return file_->read_part(name, part);
    const DType dtype = entries_.find(name)->second.dtype;
    HostTensor out{{nullptr, dtype, part.shape()}, nullptr};
    auto memory = std::make_shared_for_overwrite<char[]>(static_cast<size_t>(out.view.bytes()));
    out.view.data = memory.get();
    out.owner = std::move(memory);
    HEARTH_ASSIGN(const Parts parts, read_parts(at->second));
    switch (dtype) {
      case DType::kF16: unpack<F16>(at->second, parts, part, out.view); break;
      case DType::kBF16: unpack<BF16>(at->second, parts, part, out.view); break;
      default: unpack<float>(at->second, parts, part, out.view);
    }
    return out;
  }

  Result<ScaledRows> read_scaled(std::string_view name, const MatrixPart& part) const override {
    return file_->read_scaled(name, part);
  }
  std::string name_in_file(std::string_view name) const override { return file_->name_in_file(name); }

 private:
  struct Matrix {
    std::string base;
    int64_t out, in, groups;
    std::vector<int32_t> group_of;  // of each input channel; empty: in order
  };
  struct Parts {
    HostTensor codes, scales, zeros;
  };

  bool is_part(std::string_view name, size_t dot) const {
    const std::string_view end = name.substr(dot);
    return end == names_.codes || end == names_.scales || end == names_.zeros || end == names_.groups ||
           (how_.layout == PackedLayout::kCompressedTensors && end == ".weight_shape");
  }

  // The tensor, of this type and shape.
  Result<const Entry*> part(const std::string& name, const Shape& shape, bool ints) const {
    HEARTH_TRY(file_->expect(name, shape));
    const Entry& entry = file_->entries().find(name)->second;
    const bool is_float = entry.dtype == DType::kF16 || entry.dtype == DType::kBF16 || entry.dtype == DType::kF32;
    if (ints ? entry.dtype == DType::kI32 : is_float) return &entry;
    return invalid(entry.source, ": expected ", ints ? "int32" : "float32, float16 or bfloat16", ", found ",
                   dtype_name(entry.dtype));
  }

  Status add(const std::string& base, const Entry& codes) {
    if (codes.shape.rank() != 2 || codes.dtype != DType::kI32) {
      return invalid(codes.source, ": expected a matrix of int32, found ", codes.shape, " of ",
                     dtype_name(codes.dtype));
    }
    Matrix m{base, codes.shape[1], codes.shape[0], 1, {}};
    if (how_.layout == PackedLayout::kGptq) m.in *= per_word_;
    if (how_.layout == PackedLayout::kAwq) m.out *= per_word_;
    if (how_.layout == PackedLayout::kCompressedTensors) {
      m.out = codes.shape[0], m.in = codes.shape[1] * per_word_;
      HEARTH_TRY(check_stated_shape(m));
    }
    const int64_t group = how_.group == 0 ? m.in : how_.group;
    if (m.in == 0 || m.out % per_word_ != 0 || m.in % group != 0) {
      return unimplemented(codes.source, ": expected rows in words of ", per_word_, " and groups of ", group,
                           " channels, found ", Shape{m.out, m.in});
    }
    m.groups = m.in / group;
    const bool by_rows = how_.layout == PackedLayout::kCompressedTensors;
    const Shape scales = by_rows ? Shape{m.out, m.groups} : Shape{m.groups, m.out};
    const Shape zeros = by_rows ? Shape{m.out / per_word_, m.groups} : Shape{m.groups, m.out / per_word_};
    HEARTH_ASSIGN(const Entry* found, part(cat(base, names_.scales), scales, false));
    if (how_.has_zeros) HEARTH_TRY(detail::status_of(part(cat(base, names_.zeros), zeros, true)));
    HEARTH_TRY(check_scales(*found, cat(base, names_.scales)));
    HEARTH_TRY(read_groups(m, group));
    const std::string name = base + ".weight";
    entries_.emplace(name, Entry{found->dtype, {m.out, m.in}, codes.source});
    matrices_.emplace(name, std::move(m));
    return {};
  }

  Status check_stated_shape(const Matrix& m) const {
    const std::string name = m.base + ".weight_shape";
    if (!file_->has(name)) return {};
    const Entry& entry = file_->entries().find(name)->second;
    HEARTH_ASSIGN(const HostTensor stated, file_->read(name, {2}));
    const auto value = [&](int i) {
      return entry.dtype == DType::kI64   ? stated.view.as<int64_t>()[i]
             : entry.dtype == DType::kI32 ? int64_t{stated.view.as<int32_t>()[i]}
                                          : int64_t{-1};
    };
    if (value(0) == m.out && value(1) == m.in) return {};
    return unimplemented(entry.source, ": expected ", Shape{m.out, m.in}, ", found another shape");
  }

  Status check_scales(const Entry& entry, const std::string& name) const {
    HEARTH_ASSIGN(const HostTensor scales, file_->read(name));
    for (int64_t i = 0; i < entry.shape.elements(); ++i) {
      if (!std::isfinite(scale_at(scales.view, i))) {
        return invalid(entry.source, ": expected finite scales, found another at ", i);
      }
    }
    return {};
  }

  // An act-order file says of each channel which group it is of.
  Status read_groups(Matrix& m, int64_t group) const {
    const std::string name = cat(m.base, names_.groups);
    if (names_.groups.empty() || !file_->has(name)) return {};
    HEARTH_ASSIGN(const Entry* entry, part(name, {m.in}, true));
    HEARTH_ASSIGN(const HostTensor stored, file_->read(name));
    const int32_t* groups = stored.view.as<int32_t>();
    bool in_order = true;
    for (int64_t k = 0; k < m.in; ++k) {
      if (groups[k] < 0 || groups[k] >= m.groups) {
        return invalid(entry->source, ": expected groups below ", m.groups, ", found ", groups[k], " at ", k);
      }
      in_order &= groups[k] == k / group;
    }
    if (!in_order) m.group_of.assign(groups, groups + m.in);
    return {};
  }

  static float scale_at(const Tensor& scales, int64_t i) {
    if (scales.dtype == DType::kF16) return to_float(scales.as<F16>()[i]);
    if (scales.dtype == DType::kBF16) return to_float(scales.as<BF16>()[i]);
    return scales.as<float>()[i];
  }

  Result<Parts> read_parts(const Matrix& m) const {
    Parts out;
    HEARTH_ASSIGN(out.codes, file_->read(cat(m.base, names_.codes)));
    HEARTH_ASSIGN(out.scales, file_->read(cat(m.base, names_.scales)));
    if (how_.has_zeros) {
      HEARTH_ASSIGN(out.zeros, file_->read(cat(m.base, names_.zeros)));
    }
    return out;
  }

  int code_at(const Tensor& words, int64_t word, int64_t place) const {
    const auto bits = static_cast<uint32_t>(words.as<int32_t>()[word]);
    return static_cast<int>(bits >> (place * how_.bits) & ((1u << how_.bits) - 1));
  }

  int zero_of(const Matrix& m, const Parts& parts, int64_t row, int64_t group) const {
    if (!how_.has_zeros) return 1 << (how_.bits - 1);
    const int64_t word = row / per_word_, place = row % per_word_, words = m.out / per_word_;
    if (how_.layout == PackedLayout::kCompressedTensors) {
      return code_at(parts.zeros.view, word * m.groups + group, place);
    }
    const int stored =
        code_at(parts.zeros.view, group * words + word, how_.layout == PackedLayout::kAwq ? kAwqPlaces[place] : place);
    return how_.zeros_less_one ? (stored + 1) & ((1 << how_.bits) - 1) : stored;
  }

  int code_of(const Matrix& m, const Parts& parts, int64_t row, int64_t channel) const {
    switch (how_.layout) {
      case PackedLayout::kGptq:
        return code_at(parts.codes.view, channel / per_word_ * m.out + row, channel % per_word_);
      case PackedLayout::kAwq:
        return code_at(parts.codes.view, channel * (m.out / per_word_) + row / per_word_, kAwqPlaces[row % per_word_]);
      default: return code_at(parts.codes.view, (row * m.in + channel) / per_word_, channel % per_word_);
    }
  }

  template <typename T>
  void unpack(const Matrix& m, const Parts& parts, const MatrixPart& part, const Tensor& out) const {
    const bool by_rows = how_.layout == PackedLayout::kCompressedTensors;
    const int64_t group = m.in / m.groups;
    T* to = out.as<T>();
    std::vector<int> zeros(static_cast<size_t>(m.groups));
    std::vector<float> scales(static_cast<size_t>(m.groups));
    for (int64_t row = part.rows.begin; row < part.rows.end; row += part.row_step) {
      for (int64_t g = 0; g < m.groups; ++g) {
        zeros[static_cast<size_t>(g)] = zero_of(m, parts, row, g);
        scales[static_cast<size_t>(g)] = scale_at(parts.scales.view, by_rows ? row * m.groups + g : g * m.out + row);
      }
      for (int64_t k = part.columns.begin; k < part.columns.end; ++k) {
        const auto g = static_cast<size_t>(m.group_of.empty() ? k / group : m.group_of[static_cast<size_t>(k)]);
        const float value = static_cast<float>(code_of(m, parts, row, k) - zeros[g]) * scales[g];  // exact
        if constexpr (std::is_same_v<T, F16>) {
          *to++ = to_f16(value);
        } else if constexpr (std::is_same_v<T, BF16>) {
          *to++ = to_bf16(value);
        } else {
          *to++ = value;
        }
      }
    }
  }

  const std::shared_ptr<const Checkpoint> file_;
  const PackedInts how_;
  const Names names_;
  const int64_t per_word_;
  std::map<std::string, Matrix, std::less<>> matrices_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> unpack_ints(std::shared_ptr<const Checkpoint> file, const PackedInts& how) {
  if (how.layout == PackedLayout::kNone) return file;
  auto out = std::make_shared<UnpackedCheckpoint>(std::move(file), how);
  HEARTH_TRY(out->index());
  out->report();
  return std::shared_ptr<const Checkpoint>(std::move(out));
}

}  // namespace hearth
