// From a run-time DType to the type of its elements.
#pragma once

#include "base/check.h"
#include "tensor/dtype.h"

namespace hearth {

// Calls f(T{}) with T float, F16 or BF16: what an activation can be.
template <typename F>
auto visit_act(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32: return f(float{});
    case DType::kF16: return f(F16{});
    case DType::kBF16: return f(BF16{});
    default: HEARTH_CHECK(!"a 16 or 32 bit float type"); __builtin_unreachable();
  }
}

// As visit_act, or E4M3: what a weight or a cached key can be.
template <typename F>
auto visit_float(DType dtype, F&& f) {
  return dtype == DType::kE4M3 ? f(E4M3{}) : visit_act(dtype, f);
}

}  // namespace hearth
