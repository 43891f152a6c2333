// Checkpoint: one view over safetensors folders and GGUF files: tensors by name. Under the files' own names, or, with a
// NameMap (name_map.h) before it, under Hearth's.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked.h"
#include "base/status.h"
#include "tensor/shard.h"
#include "tensor/tensor.h"

namespace hearth {

class GgufFile;

// Host memory that holds while `owner` does: a piece of a mapped file, or a dequantized copy.
struct HostTensor {
  Tensor view;
  std::shared_ptr<const void> owner;
};

// A rectangle of a matrix: what one rank has of it.
struct MatrixPart {
  Range rows, columns;
  int64_t row_step = 1;  // of every so many rows the first, from the range's first on
  Shape shape() const { return {ceil_div(rows.size(), row_step), columns.size()}; }
};

// A matrix in e4m3 with a scale a row.
struct ScaledRows {
  HostTensor data, scales;  // scales: f32 [rows]
  int64_t rounded = 0;      // rows that e4m3 does not hold exactly
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // What a tensor will be, known without reading it.
  struct Entry {
    DType dtype;  // as read() gives it
    Shape shape;
    std::string source;  // "model.safetensors: model.norm.weight", for messages
    bool mxfp4 = false;  // read_scaled() gives it too
    // As a matrix of its last dimension; a vector is a column.
    int64_t columns() const { return shape.rank() < 2 ? 1 : shape[shape.rank() - 1]; }
    int64_t rows() const { return columns() == 0 ? 0 : shape.elements() / columns(); }
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  bool has(std::string_view name) const { return entries_.contains(name); }
  // The name must be one of entries().
  Result<HostTensor> read(std::string_view name) const;
  // Rows [first, first + count) of the tensor as a matrix, as [count, columns].
  virtual Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const = 0;
  // A part of it; little else is read.
  virtual Result<HostTensor> read_part(std::string_view name, const MatrixPart& part) const;
  // The same of an entry in MXFP4 (mxfp4.h).
  virtual Result<ScaledRows> read_scaled(std::string_view name, const MatrixPart& part) const;
  // Refuses a missing tensor or one of another shape: "FILE: TENSOR: expected [..], found [..]".
  virtual Status expect(std::string_view name, const Shape& expected) const;
  // The same of NAME.weight, which may be quantized.
  virtual Status expect_matrix(std::string_view name, int64_t out, int64_t in) const;
  Result<HostTensor> read(std::string_view name, const Shape& expected) const;

  const std::string& path() const { return path_; }
  // What the file calls the tensor, or would, had it a tensor for each matrix.
  virtual std::string name_in_file(std::string_view name) const { return std::string(name); }
  // Metadata where the checkpoint is a GGUF file, else null.
  virtual const GgufFile* gguf() const { return nullptr; }

 protected:
  mutable std::map<std::string, Entry, std::less<>> entries_;  // a dummy's grow as they are expected
  std::string path_;
};

// A folder with model.safetensors or model.safetensors.index.json.
Result<std::shared_ptr<const Checkpoint>> open_safetensors_folder(const std::filesystem::path& folder);
// Quantized matrices become float16, those in MXFP4 bfloat16, or e4m3 by read_scaled().
Result<std::shared_ptr<const Checkpoint>> open_gguf_checkpoint(const std::filesystem::path& file);

}  // namespace hearth
