// Checkpoint: one view over safetensors folders and GGUF files. Tensors go by their Hugging Face names in the layout of
// Llama and of Mixtral's per-expert matrices, whatever the file's own layout is.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace hearth {

class GgufFile;

// Host memory that holds while `owner` does: a piece of a mapped file, or a dequantized copy.
struct HostTensor {
  Tensor view;
  std::shared_ptr<const void> owner;
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // What a tensor will be, known without reading it.
  struct Entry {
    DType dtype;  // as read() gives it
    Shape shape;
    std::string source;  // "model.safetensors: model.norm.weight", for messages
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  bool has(std::string_view name) const { return entries_.contains(name); }
  // The name must be one of entries().
  virtual Result<HostTensor> read(std::string_view name) const = 0;
  // As read(), and refuses a missing tensor or one of another shape: "FILE: TENSOR: expected [..], found [..]".
  Result<HostTensor> read(std::string_view name, const Shape& expected) const;
  Status expect(std::string_view name, const Shape& expected) const;

  const std::string& path() const { return path_; }
  // Metadata where the checkpoint is a GGUF file, else null.
  virtual const GgufFile* gguf() const { return nullptr; }

 protected:
  std::map<std::string, Entry, std::less<>> entries_;
  std::string path_;
};

// A folder with model.safetensors or model.safetensors.index.json.
Result<std::shared_ptr<const Checkpoint>> open_safetensors_folder(const std::filesystem::path& folder);
Result<std::shared_ptr<const Checkpoint>> open_gguf_checkpoint(const std::filesystem::path& file);

}  // namespace hearth
