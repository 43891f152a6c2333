// Where a checkpoint's rows stand in the matrices that grouped_gemm reads, and the kernel that brings them there.
#pragma once

#include <cuda_runtime_api.h>

#include "base/host_device.h"
#include "tensor/tensor.h"

namespace hearth::cuda {

// Row r of a part becomes row at(r) of the whole. SwiGLU wants gate and up in turns of eight rows, and of one row of
// scales where those are of blocks.
struct RowPlace {
  enum Kind : uint8_t { kStacked, kGate, kUp } kind = kStacked;
  int64_t base = 0;
  int64_t turn = 8;
  HEARTH_HOST_DEVICE int64_t at(int64_t r) const {
    if (kind == kStacked) return base + r;
    return base + r / turn * 2 * turn + r % turn + (kind == kUp ? turn : 0);
  }
};

struct RowsToLoad {
  const void* in;  // [rows, columns] on the device, f32, f16, bf16 or e4m3
  DType in_dtype;
  int64_t rows, columns;
  int64_t first_row;  // of these rows in their part
  RowPlace place;
  void* out;   // the whole: f32, f16, bf16, or e4m3
  bool tiled;  // as weight_tiles.h says, else rows one after the other
  DType out_dtype;
  // Of each row of the whole in e4m3: its unit (weight_units.h), times its scale where it was not e4m3 before. Null:
  // e4m3 stays as it is.
  float* scales;
  bool multiplies = false;      // f32: what stands there
  uint32_t* rounded = nullptr;  // counts the e4m3 rows that their unit does not leave exact; or null
};
void load_rows(const RowsToLoad& rows, cudaStream_t stream);

}  // namespace hearth::cuda
