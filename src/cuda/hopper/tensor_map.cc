// cuTensorMapEncodeTiled behind a Status.
#include "cuda/hopper/tensor_map.h"

#include <cuda_runtime_api.h>

#include <array>

namespace hearth::hopper {
namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

EncodeTiled find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<EncodeTiled>(function);
}

CUtensorMapDataType map_type(DType dtype) {
  switch (dtype) {
    case DType::kF32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::kF16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::kBF16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::kI32: return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case DType::kI64: return CU_TENSOR_MAP_DATA_TYPE_INT64;
    case DType::kE4M3:
    case DType::kI8:
    case DType::kU8: return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
  return CU_TENSOR_MAP_DATA_TYPE_UINT8;
}

CUtensorMapSwizzle map_swizzle(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::kNone: return CU_TENSOR_MAP_SWIZZLE_NONE;
    case Swizzle::k64: return CU_TENSOR_MAP_SWIZZLE_64B;
    case Swizzle::k128: return CU_TENSOR_MAP_SWIZZLE_128B;
  }
  return CU_TENSOR_MAP_SWIZZLE_NONE;
}

}  // namespace

Result<CUtensorMap> make_tensor_map(DType dtype, const void* data, std::initializer_list<int64_t> sizes,
                                    std::initializer_list<int64_t> strides, std::initializer_list<int64_t> box,
                                    Swizzle swizzle, Fetch fetch) {
  static const EncodeTiled encode = find_encode();
  if (!encode) return Status(Code::kUnavailable, "no NVIDIA driver that encodes tensor maps");
  const size_t rank = sizes.size();
  HEARTH_CHECK(rank >= 1 && rank <= 5 && strides.size() == rank - 1 && box.size() == rank);
  std::array<cuuint64_t, 5> dims{}, pitch{};
  std::array<cuuint32_t, 5> extent{}, step{};
  for (size_t i = 0; i < rank; ++i) {
    dims[i] = static_cast<cuuint64_t>(sizes.begin()[i]);
    extent[i] = static_cast<cuuint32_t>(box.begin()[i]);
    step[i] = 1;
    if (i + 1 < rank) pitch[i] = static_cast<cuuint64_t>(strides.begin()[i]);
  }
  CUtensorMap map;
  const CUresult error =
      encode(&map, map_type(dtype), static_cast<cuuint32_t>(rank), const_cast<void*>(data), dims.data(), pitch.data(),
             extent.data(), step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, map_swizzle(swizzle),
             fetch == Fetch::k256 ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B : CU_TENSOR_MAP_L2_PROMOTION_NONE,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (error != CUDA_SUCCESS) return internal_error("tensor map refused by the driver, error ", static_cast<int>(error));
  return map;
}

}  // namespace hearth::hopper
