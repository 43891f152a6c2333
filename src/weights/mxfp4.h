// MXFP4: blocks of 32 values along K, each a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 (e2m1), times a power of two
// that the block has for all (e8m0). Here it becomes e4m3 with a scale a row, the same values where the row's blocks
// lie close enough together: e4m3 holds e2m1 times 2^-8 to 2^6. Source: Open Compute Project 2023 (Microscaling
// Formats).
#pragma once

#include <functional>

#include "weights/checkpoint.h"

namespace hearth {

constexpr int64_t kMxfp4Block = 32;       // values
constexpr int64_t kMxfp4BlockBytes = 16;  // their codes

// Where a row's blocks lie.
struct Mxfp4Row {
  const uint8_t* codes;      // of a block
  const uint8_t* exponents;  // a byte a block
  int64_t codes_stride, exponents_stride;
  bool halves;  // a byte has values i and i + 16 of its block (GGUF), else 2 i and 2 i + 1; the low four bits the first
};

// The only form of scales there is: a power of two for each row, which brings its largest value near e4m3's end.
// Refuses a block without a finite value (exponent 255, or too large).
Result<ScaledRows> mxfp4_to_e4m3(int64_t rows, const Range& columns, const std::string& source,
                                 const std::function<Mxfp4Row(int64_t)>& row_at);
// [rows, columns] in bfloat16, which holds each value.
Result<HostTensor> mxfp4_to_bf16(int64_t rows, const Range& columns, const std::string& source,
                                 const std::function<Mxfp4Row(int64_t)>& row_at);

// A folder's checkpoint in which each pair NAME_blocks [.., rows, blocks, 16] and NAME_scales [.., rows, blocks], both
// U8, is a tensor NAME [.., rows, 32 * blocks].
Result<std::shared_ptr<const Checkpoint>> pair_mxfp4(std::shared_ptr<const Checkpoint> file);

}  // namespace hearth
