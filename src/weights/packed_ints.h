// Packed integers: weights of 4 or 8 bits in words of 32, with a scale and perhaps a zero point for each group of input
// channels, as GPTQ, AWQ and compressed-tensors write them. They become 16 bit, the values that those libraries'
// dequantization gives: (code - zero) * scale, rounded once to the scales' type. Sources: Frantar et al. 2022 (GPTQ),
// Lin et al. 2023 (AWQ).
#pragma once

#include "weights/checkpoint.h"

namespace hearth {

enum class PackedLayout : uint8_t {
  kNone,
  kGptq,  // NAME.qweight [in / n, out], .qzeros [groups, out / n], .scales [groups, out], perhaps .g_idx [in]
  kAwq,   // as GPTQ's, but .qweight [in, out / n], and columns within a word in an order of their own
  kCompressedTensors,  // NAME.weight_packed [out, in / n], .weight_scale [out, groups], perhaps .weight_zero_point
};

struct PackedInts {
  PackedLayout layout = PackedLayout::kNone;
  int bits = 0;                 // 4 or 8
  int64_t group = 0;            // input channels; 0: all of a row's
  bool zeros_less_one = false;  // GPTQ's zero points are stored less 1 (its first format)
  bool has_zeros = true;        // else the middle of the range is the zero
};

// A folder's checkpoint in which what is packed so is a matrix NAME.weight [out, in]. Shapes and the groups of an
// act-order file are checked here.
Result<std::shared_ptr<const Checkpoint>> unpack_ints(std::shared_ptr<const Checkpoint> file, const PackedInts& how);

}  // namespace hearth
