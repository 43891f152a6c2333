// What is common to both kinds of checkpoint, and the folder of safetensors files.
#include "weights/checkpoint.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json.h"
#include "tensor/host_matrix.h"
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
    if (is_there(index)) return open_sharded(folder, index);
    if (!is_there(single)) {
      return Status(Code::kNotFound,
                    cat(path_, ": expected model.safetensors or model.safetensors.index.json, found ",
                        is_there(folder / "pytorch_model.bin") || is_there(folder / "pytorch_model.bin.index.json")
                            ? "a pickle, which is not read"
                            : "neither"));
    }
    HEARTH_ASSIGN(SafetensorsFile file, SafetensorsFile::open(single));
    HEARTH_TRY(add(std::move(file), nullptr, {}));
    return check_fused_scales();
  }

  Result<HostTensor> read(std::string_view name) const override {
    const Piece& piece = pieces_.find(name)->second;
    const Tensor& view = piece.tensor;
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
      if (!raw_names_.contains(name)) {
        return invalid(printable((folder / shard).string()), ": ", printable(name),
                       ": expected by the index, found in no shard");
      }
    }
    return check_fused_scales();
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
      raw_names_.insert(name);
      HEARTH_TRY(insert(name, tensor, source, file));
    }
    return {};
  }

  // Takes transformers 5's fused experts apart and renames its router; everything else goes by its own name.
  Status insert(const std::string& name, const Tensor& tensor, const std::string& source,
                const std::shared_ptr<const SafetensorsFile>& file) {
    constexpr std::string_view kGateUp = ".mlp.experts.gate_up_proj", kDown = ".mlp.experts.down_proj",
                               kGate = ".mlp.gate.";
    if (const size_t at = name.find(kGate); at != name.npos) {
      return insert_as(cat(name.substr(0, at), ".block_sparse_moe.gate.", name.substr(at + kGate.size())), tensor,
                       source, file);
    }
    const bool gate_up = name.find(kGateUp) != name.npos;
    const size_t at = name.find(gate_up ? kGateUp : kDown);
    if (at == name.npos) return insert_as(name, tensor, source, file);
    // "", "_scale", "_scale_inv" after the projection's name; the matrices themselves become ".weight". A static
    // activation scale is one number an expert.
    const std::string_view rest = std::string_view(name).substr(at + (gate_up ? kGateUp : kDown).size());
    const bool activation = rest == "_activation_scale";
    const std::string suffix = activation ? ".activation_scale" : cat(".weight", rest);
    if (tensor.shape.rank() != (activation ? 1 : 3) || tensor.dim(0) > 4096) {
      return invalid(source,
                     activation ? ": expected [experts], found " : ": expected [experts, rows, columns], found ",
                     tensor.shape);
    }
    const int64_t rows = activation ? 1 : tensor.dim(1);
    if (gate_up && rows > 1 && rows % 2 != 0) return invalid(source, ": expected an even number of rows, found ", rows);
    const std::string layer = cat(name.substr(0, at), ".block_sparse_moe.experts.");
    if (gate_up && rows > 2 && !rest.empty()) fused_scales_.push_back({cat(layer, "0.w1.weight"), rows / 2, source});
    for (int64_t e = 0; e < tensor.dim(0); ++e) {
      Tensor expert = tensor.rows(e, 1);
      if (!activation) expert.shape = {rows, tensor.dim(2)};
      const std::string prefix = cat(layer, e, ".");
      if (!gate_up) {
        HEARTH_TRY(insert_as(cat(prefix, "w2", suffix), expert, source, file));
        continue;
      }
      const int64_t half = rows == 1 ? 0 : rows / 2;  // one scale serves both
      HEARTH_TRY(insert_as(cat(prefix, "w1", suffix), expert.rows(0, rows - half), source, file));
      HEARTH_TRY(insert_as(cat(prefix, "w3", suffix), expert.rows(half, rows - half), source, file));
    }
    return {};
  }

  // A scale may not serve rows of gate and of up: per-channel scales are fine, blocks where gate's rows end with one.
  Status check_fused_scales() const {
    for (const FusedScales& scales : fused_scales_) {
      const auto weight = entries_.find(scales.weight);
      if (weight == entries_.end() || weight->second.shape.rank() != 2) continue;  // refused when asked for
      const int64_t rows = weight->second.shape[0];
      if (rows != scales.rows && rows % kScaleGroup != 0) {
        return unimplemented(scales.source, ": expected blocks of ", kScaleGroup,
                             " rows within gate or up, found gate to have ", rows);
      }
    }
    return {};
  }

  Status insert_as(std::string name, const Tensor& tensor, const std::string& source,
                   const std::shared_ptr<const SafetensorsFile>& file) {
    if (!entries_.emplace(name, Entry{tensor.dtype, tensor.shape, source}).second) {
      return invalid(source, ": expected once, found twice");
    }
    pieces_.emplace(std::move(name), Piece{tensor, file});
    return {};
  }

  struct FusedScales {
    std::string weight;  // the first expert's gate
    int64_t rows;        // of scales, for gate alone
    std::string source;
  };

  std::map<std::string, Piece, std::less<>> pieces_;
  std::vector<FusedScales> fused_scales_;
  std::set<std::string, std::less<>> raw_names_;  // as the files have them
};

}  // namespace

Status Checkpoint::expect(std::string_view name, const Shape& expected) const {
  const auto at = entries_.find(name);
  if (at == entries_.end()) return invalid(path_, ": ", name, ": expected ", expected, ", found no such tensor");
  if (at->second.shape != expected) {
    return invalid(at->second.source, ": expected ", expected, ", found ", at->second.shape);
  }
  return {};
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
