// Which tile a grouped product runs with: a pure function of its shape, tested without a GPU. The choice changes speed,
// never bits.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace hearth::cuda {

struct GroupedGemmTile {
  int warpgroups;  // of 64 weight rows each: 1 or 2
  int cluster;     // CTAs along the weight rows that share a token tile: 1 or 2
  int max_piece;   // a group's rows are cut into even pieces of at most this many
  int stages;      // of the ring, each 128 bytes of K
  bool operator==(const GroupedGemmTile&) const = default;
};

// Whether there is a kernel for it: pieces of its registers and copies, and at least two stages, for one is let go of
// when the next one's products are queued.
bool can_run(const GroupedGemmTile& tile);

// `max_rows` of all groups together, `max_group` of one.
GroupedGemmTile choose_tile(DType dtype, int64_t groups, int64_t n, int64_t max_rows, int64_t max_group, int sm_count);

// The most stages that fit beside each other, at most kMaxStages.
int stages_that_fit(DType dtype, int warpgroups, int max_piece);

// Dynamic shared memory of a launch, alignment included.
int64_t shared_bytes(DType dtype, const GroupedGemmTile& tile);

}  // namespace hearth::cuda
