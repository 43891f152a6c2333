// What is common to both kinds of checkpoint, and the folder of safetensors files.
#include "weights/checkpoint.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "base/log.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  Status open(const fs::path& folder) {
    path_ = printable(folder.string());
    const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
    // As in transformers, the single file goes first.
    if (!is_there(single) && is_there(index)) return open_sharded(folder, index);
    if (is_there(index)) log_info(path_, ": model.safetensors.index.json is not used beside model.safetensors");
    if (!is_there(single)) {
      return Status(Code::kNotFound,
                    cat(path_, ": expected model.safetensors or model.safetensors.index.json, found ",
                        is_there(folder / "pytorch_model.bin") || is_there(folder / "pytorch_model.bin.index.json")
                            ? "a pickle, which is not read"
                            : "neither"));
    }
    HEARTH_ASSIGN(SafetensorsFile file, SafetensorsFile::open(single));
    return add(std::move(file), nullptr, {});
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    const Piece& piece = pieces_.find(name)->second;
    const int64_t columns = entries_.find(name)->second.columns();
    Tensor view = piece.tensor;
    view.data = static_cast<char*>(view.data) + first * columns * dtype_size(view.dtype);
    view.shape = {count, columns};
    if (reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(dtype_size(view.dtype)) == 0) {
      return HostTensor{view, piece.file};
    }
    // The format does not promise alignment.
    HostTensor out{view, std::make_shared_for_overwrite<char[]>(static_cast<size_t>(view.bytes()))};
    out.view.data = const_cast<void*>(out.owner.get());
    std::memcpy(out.view.data, view.data, static_cast<size_t>(view.bytes()));
    return out;
  }

 private:
  struct Piece {
    Tensor tensor;
    std::shared_ptr<const SafetensorsFile> file;
  };

  Status open_sharded(const fs::path& folder, const fs::path& index) {
    const std::string where = printable(index.string());
    HEARTH_ASSIGN(const std::string text, read_text_file(index));
    auto parsed = parse_json(text);
    if (!parsed.ok()) return parsed.status().prefixed(where);
    const auto map = parsed->find("weight_map");
    if (map == parsed->end() || !map->is_object()) return invalid(where, ": expected a weight_map object");
    std::map<std::string, std::string> shard_of;
    std::set<std::string> shards;
    for (const auto& [name, shard] : map->items()) {
      // A plain name of a file beside the index: no folder, no "..".
      const std::string file = shard.is_string() ? shard.get<std::string>() : "";
      if (file.find('/') != file.npos || !file.ends_with(".safetensors") || file.find('\0') != file.npos) {
        return invalid(where, ": ", printable(name),
                       ": expected the name of a .safetensors file in this folder, found ",
                       file.empty() ? "none" : printable(file));
      }
      shard_of.emplace(name, file);
      shards.insert(file);
    }
    for (const std::string& shard : shards) {
      HEARTH_ASSIGN(SafetensorsFile file, SafetensorsFile::open(folder / shard));
      HEARTH_TRY(add(std::move(file), &shard_of, shard));
    }
    for (const auto& [name, shard] : shard_of) {
      if (!pieces_.contains(name)) {
        return invalid(printable((folder / shard).string()), ": ", printable(name),
                       ": expected by the index, found in no shard");
      }
    }
    return {};
  }

  // `shard_of`: the index's map, by which a tensor must be in `shard`; null for a single file.
  Status add(SafetensorsFile opened, const std::map<std::string, std::string>* shard_of, const std::string& shard) {
    const auto file = std::make_shared<const SafetensorsFile>(std::move(opened));
    for (const auto& [name, tensor] : file->tensors()) {
      const std::string source = cat(file->path(), ": ", printable(name));
      if (shard_of != nullptr) {
        const auto at = shard_of->find(name);
        if (at == shard_of->end()) return invalid(source, ": expected in the index, found in this shard only");
        if (at->second != shard) {
          return invalid(source, ": expected in ", printable(at->second), " alone, found here too");
        }
      }
      if (!entries_.emplace(name, Entry{tensor.dtype, tensor.shape, source}).second) {
        return invalid(source, ": expected once, found twice");
      }
      pieces_.emplace(name, Piece{tensor, file});
    }
    return {};
  }

  std::map<std::string, Piece, std::less<>> pieces_;
};

}  // namespace

Status Checkpoint::expect(std::string_view name, const Shape& expected) const {
  const auto at = entries_.find(name);
  if (at == entries_.end()) {
    return invalid(path_, ": ", name_in_file(name), ": expected ", expected, ", found no such tensor");
  }
  if (at->second.shape != expected) {
    return invalid(at->second.source, ": expected ", expected, ", found ", at->second.shape);
  }
  return {};
}

Status Checkpoint::expect_matrix(std::string_view name, int64_t out, int64_t in) const {
  return expect(cat(name, ".weight"), {out, in});
}

Result<HostTensor> Checkpoint::read(std::string_view name) const {
  const Entry& entry = entries_.find(name)->second;
  HEARTH_ASSIGN(HostTensor out, read_rows(name, 0, entry.rows()));
  out.view.shape = entry.shape;
  return out;
}

Result<HostTensor> Checkpoint::read_part(std::string_view name, const MatrixPart& part) const {
  HEARTH_ASSIGN(HostTensor rows, read_rows(name, part.rows.begin, part.rows.size()));
  if (part.columns == Range{0, rows.view.dim(1)} && part.row_step == 1) return rows;
  const int64_t element = dtype_size(rows.view.dtype), from_bytes = rows.view.dim(1) * element;
  HostTensor out{{nullptr, rows.view.dtype, part.shape()}, nullptr};
  if (!rows.view) return out;
  const int64_t bytes = part.columns.size() * element;
  auto memory = std::make_shared_for_overwrite<char[]>(static_cast<size_t>(out.view.bytes()));
  const char* from = static_cast<const char*>(rows.view.data) + part.columns.begin * element;
  for (int64_t row = 0; row < out.view.dim(0); ++row) {
    std::memcpy(memory.get() + row * bytes, from + row * part.row_step * from_bytes, static_cast<size_t>(bytes));
  }
  out.view.data = memory.get();
  out.owner = std::move(memory);
  return out;
}

Result<ScaledRows> Checkpoint::read_scaled(std::string_view, const MatrixPart&) const {
  HEARTH_CHECK(false);  // no entry is in MXFP4
  return ScaledRows{};
}

Result<HostTensor> Checkpoint::read(std::string_view name, const Shape& expected) const {
  HEARTH_TRY(expect(name, expected));
  return read(name);
}

Result<std::shared_ptr<const Checkpoint>> open_safetensors_folder(const fs::path& folder) {
  auto out = std::make_shared<SafetensorsCheckpoint>();
  HEARTH_TRY(out->open(folder));
  return std::shared_ptr<const Checkpoint>(std::move(out));
}

}  // namespace hearth
