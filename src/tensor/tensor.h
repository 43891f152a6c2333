// Tensor: a typed, shaped view of memory somebody else owns; row-major, no arithmetic. The memory may be a GPU's.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "base/check.h"
#include "base/checked.h"
#include "tensor/dtype.h"

namespace hearth {

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    HEARTH_CHECK(dims.size() <= kMaxRank);
    for (int64_t d : dims) dims_[rank_++] = d;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const {
    HEARTH_CHECK(i >= 0 && i < rank_);
    return dims_[i];
  }
  // Product of the dims; shapes from files are checked with checked_mul before they become a Shape.
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  void set(int i, int64_t dim) {
    HEARTH_CHECK(i >= 0 && i < rank_);
    dims_[i] = dim;
  }
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

inline void append(std::string& out, const Shape& s) {
  out += '[';
  for (int i = 0; i < s.rank(); ++i) {
    if (i) out += ", ";
    out += std::to_string(s[i]);
  }
  out += ']';
}

namespace detail {
template <typename T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct dtype_of<F16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct dtype_of<BF16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct dtype_of<E4M3> {
  static constexpr DType value = DType::kE4M3;
};
template <>
struct dtype_of<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct dtype_of<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct dtype_of<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct dtype_of<int64_t> {
  static constexpr DType value = DType::kI64;
};
}  // namespace detail

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int i) const { return shape[i]; }
  int64_t bytes() const { return shape.elements() * dtype_size(dtype); }

  template <typename T>
  T* as() const {
    HEARTH_CHECK(dtype == detail::dtype_of<T>::value);
    return static_cast<T*>(data);
  }

  // Rows [begin, begin + count) of the first dimension.
  Tensor rows(int64_t begin, int64_t count) const {
    HEARTH_CHECK(begin >= 0 && count >= 0 && begin + count <= shape[0]);
    Tensor out = *this;
    const int64_t row_bytes = shape[0] == 0 ? 0 : bytes() / shape[0];
    out.data = static_cast<char*>(data) + begin * row_bytes;
    out.shape.set(0, count);
    return out;
  }
};

}  // namespace hearth
