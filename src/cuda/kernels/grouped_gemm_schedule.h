// Which tile a cluster computes when: the order of work of grouped_gemm, the same on device and host (where it is
// tested). A group's rows are cut into even pieces of at most `max_piece` rows, some into one more where clusters would
// have nothing to do in the last round; a tile is one piece by `tile_m` weight rows.
#pragma once

#include <cstdint>

#include "base/checked.h"
#include "base/host_device.h"

namespace hearth::cuda {

constexpr int kMaxGroups = 256;
constexpr int kPieceStep = 8;     // WGMMA's N comes in steps of 8
constexpr int kMaxPiece = 288;    // token rows of a tile: what registers and four stages of shared memory allow
constexpr int kNarrowPiece = 64;  // the same of a tile of one warpgroup
constexpr int kTokenMaps = 20;    // one CTA fetches boxes of 8, 16, ... 160 token rows
constexpr int kMaxStages = 16;
constexpr int kStaticBytes = 12 * 1024;  // of shared memory: barriers, tile table, scales, row maxima
constexpr int kScaleBox = 160;           // activation scales one copy brings

HEARTH_HOST_DEVICE constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }

// Tile widths there is code for: every 8 tokens where arithmetic is the limit (and where weights stream past, to keep
// stages small), in wider steps between.
HEARTH_HOST_DEVICE constexpr int tile_width(int rows) {
  const int step = rows <= 64 ? 8 : rows <= 224 ? 16 : 8;
  return (rows + step - 1) / step * step;
}

// How a group's rows are cut: `pieces` of `rows` each (a multiple of 8), the last perhaps shorter.
struct Pieces {
  int pieces, rows;
};
HEARTH_HOST_DEVICE inline Pieces cut_into(int group_rows, int pieces) {
  if (group_rows <= 0) return {0, kPieceStep};
  const int rows = round_up(ceil_div(group_rows, pieces), kPieceStep);
  return {ceil_div(group_rows, rows), rows};
}
HEARTH_HOST_DEVICE inline Pieces cut(int group_rows, int max_piece) {
  return cut_into(group_rows, ceil_div(group_rows, max_piece));
}

// Cuts the largest groups into one piece more, as long as all tiles take no more rounds for it: group g, of rows[g], is
// cut into pieces[g], each of which is m_tiles tiles. `Lanes` share the work: a warp, or OneLane.
template <typename Lanes>
HEARTH_HOST_DEVICE void cut_more(const int* rows, int* pieces, int groups, int m_tiles, int clusters, Lanes lanes) {
  constexpr int kManyRounds = 8;  // in which the last one matters less
  constexpr int kLeast = 128;     // rows of a piece, below which a tile waits for its weights
  int tiles = 0;
  for (int g = lanes.index(); g < groups; g += lanes.count()) tiles += pieces[g] * m_tiles;
  tiles = lanes.sum(tiles);
  if (groups == 1 || tiles > kManyRounds * clusters) return;
  for (int spare = (round_up(tiles, clusters) - tiles) / m_tiles; spare > 0; --spare) {
    int largest = 0;  // a piece's rows, and its group
    for (int g = lanes.index(); g < groups; g += lanes.count()) {
      const int piece = (rows[g] > 0 ? cut_into(rows[g], pieces[g]).rows : 0) * kMaxGroups + g;
      if (piece > largest) largest = piece;
    }
    largest = lanes.most(largest);
    if (largest / kMaxGroups < kLeast) return;
    const int g = largest % kMaxGroups;
    if (g % lanes.count() == lanes.index()) ++pieces[g];
  }
}
struct OneLane {
  static int index() { return 0; }
  static int count() { return 1; }
  static int sum(int value) { return value; }
  static int most(int value) { return value; }
};

// Which tile a cluster takes in a round: to and fro, so that with large tiles first everybody ends at about the same
// time.
HEARTH_HOST_DEVICE inline int tile_of_round(int round, int cluster, int clusters) {
  return round * clusters + (round % 2 == 0 ? cluster : clusters - 1 - cluster);
}

// Within a group, up to 8 pieces share a weight tile while it is in L2, then the next weight tile follows; so a weight
// tile is read from memory once for every 8 pieces, and the pieces' rows stay in L2 meanwhile.
struct TileInGroup {
  int m_tile, piece;
};
HEARTH_HOST_DEVICE inline TileInGroup tile_in_group(int index, int m_tiles, int pieces) {
  constexpr int kBand = 8;
  const int band = index / (kBand * m_tiles);
  const int left = pieces - band * kBand;
  const int width = left < kBand ? left : kBand;
  const int in_band = index - band * kBand * m_tiles;
  return {in_band / width, band * kBand + in_band % width};
}

}  // namespace hearth::cuda
