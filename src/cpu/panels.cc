// Packing of weights into panels, and the choice of instructions.
#include "cpu/panels.h"

#include <algorithm>

namespace hearth {
namespace {

template <typename T>
void pack(const void* const (&rows)[kPanelRows], int64_t in, T* panel) {
  constexpr int64_t kTile = 16;  // columns whose lines stay in cache while 64 rows are read
  for (int64_t begin = 0; begin < in; begin += kTile) {
    const int64_t end = std::min(in, begin + kTile);
    for (int64_t row = 0; row < kPanelRows; ++row) {
      const T* source = static_cast<const T*>(rows[row]);
      for (int64_t k = begin; k < end; ++k) panel[k * kPanelRows + row] = source ? source[k] : T{};
    }
  }
}

}  // namespace

void pack_panel(const void* const (&rows)[kPanelRows], DType dtype, int64_t in, void* panel) {
  switch (dtype_size(dtype)) {
    case 1: return pack(rows, in, static_cast<uint8_t*>(panel));
    case 2: return pack(rows, in, static_cast<uint16_t*>(panel));
    default: return pack(rows, in, static_cast<uint32_t*>(panel));
  }
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd");
}

void multiply_panel(const PanelProduct& product) {
  static const auto chosen = has_avx512() ? multiply_panel_avx512 : multiply_panel_avx2;
  chosen(product);
}

}  // namespace hearth
