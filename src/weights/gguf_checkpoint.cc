// A GGUF file under its own names: quantized matrices become float16, those in MXFP4 bfloat16 or e4m3.
#include <cmath>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "weights/checkpoint.h"
#include "weights/gguf.h"
#include "weights/mxfp4.h"

namespace hearth {
namespace {

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {
    path_ = file_->path();
    for (const auto& [name, tensor] : file_->tensors()) add(name, tensor);
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    return read_part(name, {{first, first + count}, {0, entries_.find(name)->second.columns()}});
  }

  Result<HostTensor> read_part(std::string_view name, const MatrixPart& part) const override {
    const GgufTensor& tensor = file_->tensors().find(name)->second;
    const Entry& entry = entries_.find(name)->second;
    const GgmlTypeInfo& info = *ggml_type_info(static_cast<uint32_t>(tensor.type));
    const int64_t columns = entry.columns(), first = part.rows.begin, count = part.shape()[0];
    const bool some = part.columns.size() != columns || part.row_step != 1;
    if (info.block_elements == 1 && some) return Checkpoint::read_part(name, part);
    if (entry.mxfp4) return mxfp4_to_bf16(part.shape()[0], part.columns, entry.source, mxfp4_rows(name, part));
    HostTensor out;
    out.view.dtype = entry.dtype;
    out.view.shape = part.shape();
    if (info.block_elements == 1) {
      out.view.data = const_cast<char*>(tensor.bytes.data() + first * columns * info.block_bytes);
      out.owner = file_;
      return out;
    }
    // A quantized vector's blocks are of several of its elements: it is one row.
    const bool vector = entry.shape.rank() < 2;
    HEARTH_CHECK(!vector || (first == 0 && count == entry.rows()));
    const int64_t rows = vector ? 1 : count;
    const Range wanted = vector ? Range{0, count} : part.columns;
    const int64_t row_bytes = (vector ? count : columns) / info.block_elements * info.block_bytes;
    const Range blocks{wanted.begin / info.block_elements, ceil_div(wanted.end, info.block_elements)};
    auto memory = std::make_shared_for_overwrite<F16[]>(static_cast<size_t>(rows * wanted.size()));
    std::vector<float> row(static_cast<size_t>(blocks.size() * info.block_elements));
    const float* values = row.data() + wanted.begin - blocks.begin * info.block_elements;
    for (int64_t r = 0; r < rows; ++r) {
      const char* in = tensor.bytes.data() + (first + r * part.row_step) * row_bytes + blocks.begin * info.block_bytes;
      dequantize_ggml(tensor.type, in, std::ssize(row), row.data());
      F16* halves = memory.get() + r * wanted.size();
      bool finite = true;
      for (int64_t c = 0; c < wanted.size(); ++c) {
        halves[c] = to_f16(values[c]);
        finite &= (halves[c].bits & 0x7C00) != 0x7C00;
      }
      if (!finite)
        return invalid(entry.source, ": expected values within float16, found others in row ",
                       first + r * part.row_step);
    }
    out.view.data = memory.get();
    out.owner = std::move(memory);
    return out;
  }

  Result<ScaledRows> read_scaled(std::string_view name, const MatrixPart& part) const override {
    const Entry& entry = entries_.find(name)->second;
    return mxfp4_to_e4m3(part.shape()[0], part.columns, entry.source, mxfp4_rows(name, part));
  }

  const GgufFile* gguf() const override { return file_.get(); }

 private:
  // A block is its exponent, then its codes.
  std::function<Mxfp4Row(int64_t)> mxfp4_rows(std::string_view name, const MatrixPart& part) const {
    constexpr int64_t kBytes = 1 + kMxfp4BlockBytes;
    const auto* bytes = reinterpret_cast<const uint8_t*>(file_->tensors().find(name)->second.bytes.data());
    const int64_t row_bytes = entries_.find(name)->second.columns() / kMxfp4Block * kBytes;
    return [=, first = part.rows.begin, step = part.row_step](int64_t row) {
      const uint8_t* at = bytes + (first + row * step) * row_bytes;
      return Mxfp4Row{at + 1, at, kBytes, kBytes, true};
    };
  }

  void add(std::string_view name, const GgufTensor& tensor) {
    DType dtype = DType::kF16;
    if (tensor.type == GgmlType::kF32) dtype = DType::kF32;
    if (tensor.type == GgmlType::kBF16) dtype = DType::kBF16;
    Shape shape;  // the contiguous dimension last
    const auto& d = tensor.dims;
    switch (d.size()) {
      case 1: shape = {d[0]}; break;
      case 2: shape = {d[1], d[0]}; break;
      case 3: shape = {d[2], d[1], d[0]}; break;
      default: shape = {d[3], d[2], d[1], d[0]}; break;
    }
    // A vector is no matrix, whatever it is stored as.
    const bool mxfp4 = tensor.type == GgmlType::kMXFP4 && shape.rank() > 1;
    if (mxfp4) dtype = DType::kBF16;
    entries_.emplace(name, Entry{dtype, shape, cat(path_, ": ", printable(name)), mxfp4});
  }

  std::shared_ptr<const GgufFile> file_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> open_gguf_checkpoint(const std::filesystem::path& path) {
  HEARTH_ASSIGN(GgufFile file, GgufFile::open(path));
  return std::shared_ptr<const Checkpoint>(
      std::make_shared<GgufCheckpoint>(std::make_shared<const GgufFile>(std::move(file))));
}

}  // namespace hearth
