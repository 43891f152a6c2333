// gather_rows: the tokens whose logits are wanted.
#include <cstring>

#include "cpu/cpu_ops.h"

namespace hearth {

void CpuOps::gather_rows(Tensor in, Tensor rows, Tensor out) {
  HEARTH_CHECK(in.dtype == out.dtype && in.dim(1) == out.dim(1));
  const int64_t row_bytes = out.dim(1) * dtype_size(out.dtype);
  for (int64_t i = 0; i < out.dim(0); ++i) {
    const int64_t row = rows.as<int32_t>()[i];
    HEARTH_CHECK(row >= 0 && row < in.dim(0));
    std::memcpy(static_cast<char*>(out.data) + i * row_bytes, static_cast<const char*>(in.data) + row * row_bytes,
                static_cast<size_t>(row_bytes));
  }
}

}  // namespace hearth
