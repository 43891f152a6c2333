// Which products few_rows_gemm takes, and how it cuts them: a pure function of their shape, tested without a GPU. The
// choice changes speed, never bits.
#pragma once

#include <cstdint>
#include <optional>

namespace hearth::cuda {

struct FewRowsTile {
  int rows;     // of a piece of a group: 8, 16, 32 or, with a scale a row of x, 64
  int cluster;  // CTAs that share a tile's K: 1, 2 or 4
  int stages;   // of the ring, each 128 of K
  int ctas;     // in all, which walk over the tiles; a cluster of several CTAs takes one tile
  bool operator==(const FewRowsTile&) const = default;
};

struct FewRowsShape {
  int64_t groups, n, k;
  int64_t max_rows, max_group;  // rows of all groups together, and of one
  bool per_128 = false;         // x has a scale for every 128 of K, not one a row
};

// Of e4m3. None: grouped_gemm's large tiles are the better.
std::optional<FewRowsTile> choose_few_rows_tile(const FewRowsShape& shape, int sm_count);

// Whether there is a kernel for it that the shape's tiles all get a CTA of.
bool can_run(const FewRowsShape& shape, const FewRowsTile& tile);

// Dynamic shared memory of a launch, alignment included.
int64_t shared_bytes(const FewRowsShape& shape, const FewRowsTile& tile);

}  // namespace hearth::cuda
