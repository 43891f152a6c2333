// What the L2 cache does with what the copy engine brings: cache hints, as PTX's createpolicy encodes them.
#pragma once

#include <cstdint>

namespace hearth::hopper {

constexpr uint64_t kEvictNormal = 0x1000000000000000;
constexpr uint64_t kEvictFirst = 0x12F0000000000000;
constexpr uint64_t kEvictLast = 0x14F0000000000000;

}  // namespace hearth::hopper
