// SafetensorsWriter: one .safetensors file, its room taken first, its tensors written in any order.
// Source of the format: github.com/huggingface/safetensors#format
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace hearth {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t bytes() const { return Tensor{nullptr, dtype, shape}.bytes(); }
};

class SafetensorsWriter {
 public:
  // Makes the file, which must not be there, with all of its bytes.
  static Result<SafetensorsWriter> create(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries);
  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();

  // One of the entries, whole.
  Status write(std::string_view name, const void* data);
  // Every entry must have been written. The file is on the disk then.
  Status finish();

 private:
  struct Place {
    int64_t offset, bytes;
    bool written = false;
  };

  explicit SafetensorsWriter(const std::filesystem::path& path) : path_(path) {}
  Status failed(const char* what) const;
  Status write_at(int64_t offset, const char* data, int64_t bytes) const;

  std::filesystem::path path_;
  int file_ = -1;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace hearth
