// Tensor maps for the copy engine, encoded on the host. The driver's entry point is looked up at run time, so that a
// binary without a driver still starts.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <initializer_list>

#include "base/status.h"
#include "tensor/dtype.h"

namespace hearth::hopper {

// What the L2 reads from memory for a request of 128 bytes: more helps tiles that are read again, and slows a stream.
enum class Fetch : uint8_t { kAsAsked, k256 };
enum class Swizzle : uint8_t { kNone, k64, k128 };

// A row-major tensor of up to 5 dimensions, innermost first: sizes in elements, strides in bytes (of dimension 1 and
// up; multiples of 16), the box in elements (each at most 256; with a swizzle the inner box spans at most its bytes).
Result<CUtensorMap> make_tensor_map(DType dtype, const void* data, std::initializer_list<int64_t> sizes,
                                    std::initializer_list<int64_t> strides, std::initializer_list<int64_t> box,
                                    Swizzle swizzle, Fetch fetch = Fetch::k256);

}  // namespace hearth::hopper
