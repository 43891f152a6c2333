// Helpers of the CPU's tests: tensors that own their memory, random values, and every value as a float.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/cpu_ops.h"
#include "ops/backend.h"

namespace hearth {

inline float element(const Tensor& t, int64_t i) {
  switch (t.dtype) {
    case DType::kF32: return t.as<float>()[i];
    case DType::kF16: return to_float(t.as<F16>()[i]);
    case DType::kBF16: return to_float(t.as<BF16>()[i]);
    case DType::kE4M3: return to_float(t.as<E4M3>()[i]);
    case DType::kI32: return static_cast<float>(t.as<int32_t>()[i]);
    default: return std::numeric_limits<float>::quiet_NaN();
  }
}
inline void set_element(const Tensor& t, int64_t i, float value) {
  switch (t.dtype) {
    case DType::kF32: t.as<float>()[i] = value; break;
    case DType::kF16: t.as<F16>()[i] = to_f16(value); break;
    case DType::kBF16: t.as<BF16>()[i] = to_bf16(value); break;
    case DType::kE4M3: t.as<E4M3>()[i] = to_e4m3(value); break;
    default: HEARTH_CHECK(!"a float tensor");
  }
}

// A tensor with its memory, all bytes 0xFF at first: NaN in every float type, -1 in the others.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(DType dtype, Shape shape) : dtype_(dtype), shape_(shape) {
    bytes_.assign(static_cast<size_t>(shape.elements() * dtype_size(dtype)) + 1, 0xFF);
  }
  OwnedTensor(DType dtype, Shape shape, const std::vector<float>& values) : OwnedTensor(dtype, shape) {
    HEARTH_CHECK(static_cast<int64_t>(values.size()) == shape.elements());
    for (size_t i = 0; i < values.size(); ++i) set_element(*this, static_cast<int64_t>(i), values[i]);
  }
  template <typename T>
  static OwnedTensor of(const std::vector<T>& values, Shape shape) {
    OwnedTensor out(detail::dtype_of<T>::value, shape);
    if (!values.empty()) std::memcpy(out.bytes_.data(), values.data(), values.size() * sizeof(T));
    return out;
  }
  template <typename T>
  static OwnedTensor of(const std::vector<T>& values) {
    return of(values, {static_cast<int64_t>(values.size())});
  }
  operator Tensor() const { return {const_cast<uint8_t*>(bytes_.data()), dtype_, shape_}; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  float operator[](int64_t i) const { return element(*this, i); }

 private:
  DType dtype_ = DType::kF32;
  Shape shape_;
  std::vector<uint8_t> bytes_;
};

// An activation with its memory, in act or, with scales for `capacity` tokens, in e4m3.
struct OwnedActivation {
  OwnedActivation(InputType type, int64_t tokens, int64_t dim, int64_t capacity = 0)
      : data(type.dtype, {tokens, dim}), scales(DType::kF32, {type.scale_groups(dim), std::max(tokens, capacity)}) {}
  OwnedActivation(DType dtype, int64_t tokens, int64_t dim, int64_t capacity = 0)
      : OwnedActivation(InputType{dtype}, tokens, dim, capacity) {}
  operator Activation() const {
    return {data, static_cast<Tensor>(scales).dim(0) > 0 ? static_cast<Tensor>(scales) : Tensor{}};
  }
  // As the recipe reads it back.
  float value(int64_t token, int64_t column) const {
    const float q = data[token * static_cast<Tensor>(data).dim(1) + column];
    return q * scale(token, column);
  }
  float scale(int64_t token, int64_t column) const {
    const Tensor s = scales;
    if (s.dim(0) == 0) return 1.0f;
    return scales[(s.dim(0) == 1 ? 0 : column / kScaleGroup * s.dim(1)) + token];
  }
  OwnedTensor data, scales;
};

// Memory of a backend's on the CPU, as the recipe reads it back.
struct ActivationView {
  Activation view;
  float value(int64_t token, int64_t column) const {
    return element(view.data, token * view.data.dim(1) + column) * scale(token, column);
  }
  float scale(int64_t token, int64_t column) const {
    if (!view.scales) return 1.0f;
    return element(view.scales, (view.scales.dim(0) == 1 ? 0 : column / kScaleGroup * view.scales.dim(1)) + token);
  }
};
// What the CPU's mlp and experts keep between their products.
inline ActivationView mlp_product(Backend& backend, const MlpWeights& w) {
  Scratch& scratch = static_cast<CpuOps&>(backend.ops()).scratch();
  return {scratch.product(CpuOps::kMlpProduct, w.down.input, w.down.in()).out};
}
inline ActivationView expert_input(Backend& backend, const ExpertWeights& w) {
  return {static_cast<CpuOps&>(backend.ops()).scratch().get(CpuOps::kExpertInput, w.input, w.gate_up.dim(2))};
}
inline ActivationView expert_product(Backend& backend, const ExpertWeights& w) {
  Scratch& scratch = static_cast<CpuOps&>(backend.ops()).scratch();
  return {scratch.product(CpuOps::kExpertProduct, w.down_input, w.down.dim(2)).out};
}

inline std::vector<float> random_values(int64_t n, uint32_t seed, float spread = 1.0f) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = normal(bits);
  return out;
}

inline std::vector<float> floats(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.shape.elements()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = element(t, static_cast<int64_t>(i));
  return out;
}

// Half the distance between neighbours of a type, relative: the error of one rounding.
inline double rounding(DType dtype) {
  switch (dtype) {
    case DType::kF16: return 0x1p-11;
    case DType::kBF16: return 0x1p-8;
    case DType::kE4M3: return 0x1p-4;
    default: return 0x1p-24;
  }
}

}  // namespace hearth
