// load_rows on the host side.
#include "cuda/kernels/load_rows.cuh"
#include "cuda/launch.h"

namespace hearth::cuda {

void load_rows(const RowsToLoad& rows, cudaStream_t stream) {
  if (rows.rows == 0) return;
  HEARTH_CHECK(rows.in_dtype != DType::kE4M3 || rows.out_dtype == DType::kE4M3);
  HEARTH_CHECK(rows.out_dtype != DType::kE4M3 || rows.in_dtype == DType::kE4M3 || rows.scales);
  launch(load_rows_kernel, {.grid = static_cast<unsigned>(rows.rows), .block = 256, .overlaps_previous = false}, stream,
         rows);
}

}  // namespace hearth::cuda
