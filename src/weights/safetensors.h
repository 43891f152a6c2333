// SafetensorsFile: the directory of one .safetensors file, every rule of the format checked before anything is read.
// Source of the format: github.com/huggingface/safetensors#format
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/status.h"
#include "tensor/tensor.h"
#include "weights/mapped_file.h"

namespace hearth {

// As the format names it.
std::string_view safetensors_dtype(DType dtype);

class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  const std::string& path() const { return file_.path(); }
  // Views into the mapped file.
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
  Status read_directory();

  MappedFile file_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace hearth
