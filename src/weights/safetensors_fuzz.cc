// Fuzz target: every tensor of a file that is taken lies within it.
#include <numeric>

#include "weights/fuzz_file.h"
#include "weights/safetensors.h"

using namespace hearth;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static FuzzFile file(".safetensors");
  const auto opened = SafetensorsFile::open(file.write(data, size));
  if (!opened.ok()) return 0;
  int64_t bytes = 0, sum = 0;
  for (const auto& [name, tensor] : opened->tensors()) {
    const auto* const begin = static_cast<const unsigned char*>(tensor.data);
    bytes += tensor.bytes();
    sum = std::accumulate(begin, begin + tensor.bytes(), sum);  // each is read
  }
  HEARTH_CHECK(bytes <= static_cast<int64_t>(size) && sum >= 0);
  return 0;
}
