// ggml's tensor types: their block sizes and their conversion to float32.
// Source of the layouts: github.com/ggml-org/ggml (block_q4_1, block_q4_K, ... in ggml-common.h)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

// The types Hearth reads, by ggml's numbers.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct GgmlTypeInfo {
  std::string_view name;
  int64_t block_elements;
  int64_t block_bytes;
};
// Null for a type that is not read.
const GgmlTypeInfo* ggml_type_info(uint32_t type);
// ggml's name of a type that is not read, or empty.
std::string_view ggml_type_name(uint32_t type);
// Names of all types that are read, with commas between them.
std::string ggml_type_names();

// `elements`, a multiple of the block's, from `in` to `out`.
void dequantize_ggml(GgmlType type, const char* in, int64_t elements, float* out);

}  // namespace hearth
