// A folder of 16-bit safetensors to an FP8 checkpoint that other servers read too, tensor by tensor. What is quantized
// is what the model's own load() takes for linear layers, and to the bits that `--quantization fp8` makes of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "models/registry.h"
#include "quantize/scheme.h"

namespace hearth {

struct QuantizeOptions {
  Fp8Scheme scheme = Fp8Scheme::kChannel;
  int64_t shard_bytes = 5'000'000'000;                        // of tensors in a file
  const std::atomic<bool>* stop = nullptr;                    // set by a signal: what was written is removed
  std::function<void(int64_t done, int64_t total)> progress;  // in bytes written
};

struct QuantizeResult {
  int64_t matrices = 0, bytes = 0, files = 0;  // quantized; written; of tensors
};

// What can be refused without reading a weight: the model's form, a name that is taken, too little room.
Status check_quantize(const OpenedModel& opened, const std::filesystem::path& out, const QuantizeOptions& options);
// `inputs`, for kStatic: the largest magnitude that each matrix reads, by its name (calibrate.h). Writes beside `out`
// and renames at the end.
Result<QuantizeResult> quantize_model(const OpenedModel& opened, const std::filesystem::path& out,
                                      const std::map<std::string, float>& inputs, const QuantizeOptions& options);

}  // namespace hearth
