// Fuzz target: of a GGUF file that is taken, every key can be asked for, and every tensor lies within it and becomes
// numbers.
#include <numeric>

#include "weights/fuzz_file.h"
#include "weights/gguf.h"

using namespace hearth;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static FuzzFile file(".gguf");
  const auto opened = GgufFile::open(file.write(data, size));
  if (!opened.ok()) return 0;
  for (const std::string_view key : opened->unread_keys()) {
    opened->integer(key).ok();
    opened->number(key).ok();
    opened->boolean(key).ok();
    opened->string(key).ok();
    opened->strings(key).ok();
    opened->floats(key).ok();
    opened->integers(key).ok();
    opened->any_number(key);
  }
  HEARTH_CHECK(opened->unread_keys().empty());
  read_gguf_tokenizer(*opened).ok();

  std::vector<float> values;
  for (const auto& [name, tensor] : opened->tensors()) {
    const int64_t elements = std::accumulate(tensor.dims.begin(), tensor.dims.end(), int64_t{1}, std::multiplies<>());
    HEARTH_CHECK(elements <= static_cast<int64_t>(size) * 8);
    values.resize(static_cast<size_t>(elements));
    dequantize_ggml(tensor.type, tensor.bytes.data(), elements, values.data());
  }
  return 0;
}
