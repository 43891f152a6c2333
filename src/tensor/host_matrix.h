// HostMatrix: a weight matrix as a checkpoint holds it. weights/ makes it, a Backend takes it.
#pragma once

#include "tensor/tensor.h"

namespace hearth {

constexpr int64_t kScaleGroup = 128;  // channels that share an activation scale; rows and columns of a weight block

enum class WeightScales { kNone, kChannel, kBlock };

// In host memory, its scales already brought to one of two forms.
struct HostMatrix {
  Tensor data;  // [out, in] f32, f16, bf16 or e4m3
  WeightScales kind = WeightScales::kNone;
  Tensor scales;              // f32 [out], or [ceil(out / 128), ceil(in / 128)]
  bool scales_input = false;  // kChannel: what it is multiplied by comes as e4m3 without scales; these hold its own too
  bool mxfp4 = false;         // kChannel: it was in MXFP4; who has to round some more of its values says so
  Tensor bias;                // f32 [out], or empty; of experts' matrices
};

}  // namespace hearth
