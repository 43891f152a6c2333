// Pairs of codes and exponents found by their names, and read as one tensor.
#include <optional>
#include <set>

#include "weights/mxfp4.h"

namespace hearth {
namespace {

class Mxfp4Checkpoint final : public Checkpoint {
 public:
  explicit Mxfp4Checkpoint(std::shared_ptr<const Checkpoint> file) : file_(std::move(file)) { path_ = file_->path(); }

  Status index() {
    for (const auto& [name, entry] : file_->entries()) {
      if (const auto base = paired(name, "_blocks", "_scales")) {
        HEARTH_TRY(add(*base, entry, file_->entries().find(*base + "_scales")->second));
      } else if (!paired(name, "_scales", "_blocks")) {
        entries_.emplace(name, entry);
      }
    }
    return {};
  }
  bool any() const { return !bases_.empty(); }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    if (!bases_.contains(name)) return file_->read_rows(name, first, count);
    return read_part(name, {{first, first + count}, {0, entries_.find(name)->second.columns()}});
  }
  Result<HostTensor> read_part(std::string_view name, const MatrixPart& part) const override {
    if (!bases_.contains(name)) return file_->read_part(name, part);
    HEARTH_ASSIGN(const Raw raw, read_raw(name, part));
    return mxfp4_to_bf16(part.shape()[0], part.columns, entries_.find(name)->second.source, raw.row_at(part));
  }
  Result<ScaledRows> read_scaled(std::string_view name, const MatrixPart& part) const override {
    HEARTH_ASSIGN(const Raw raw, read_raw(name, part));
    return mxfp4_to_e4m3(part.shape()[0], part.columns, entries_.find(name)->second.source, raw.row_at(part));
  }
  std::string name_in_file(std::string_view name) const override { return file_->name_in_file(name); }
  const GgufFile* gguf() const override { return file_->gguf(); }

 private:
  struct Raw {
    HostTensor codes, exponents;
    int64_t blocks;
    std::function<Mxfp4Row(int64_t)> row_at(const MatrixPart& part) const {
      return [codes = codes.view.as<uint8_t>(), exponents = exponents.view.as<uint8_t>(), blocks = blocks,
              step = part.row_step](int64_t row) {
        const int64_t first = row * step * blocks;
        return Mxfp4Row{codes + first * kMxfp4BlockBytes, exponents + first, kMxfp4BlockBytes, 1, false};
      };
    }
  };

  // NAME where `name` is NAME + ending, of a U8 tensor, and there is another of NAME + other.
  std::optional<std::string> paired(std::string_view name, std::string_view ending, std::string_view other) const {
    if (!name.ends_with(ending)) return {};
    std::string base(name.substr(0, name.size() - ending.size()));
    for (const std::string_view each : {ending, other}) {
      const auto at = file_->entries().find(base + std::string(each));
      if (at == file_->entries().end() || at->second.dtype != DType::kU8) return {};
    }
    return base;
  }

  Status add(const std::string& base, const Entry& codes, const Entry& exponents) {
    const int rank = codes.shape.rank();
    if (rank < 3 || codes.shape[rank - 1] != kMxfp4BlockBytes) {
      return invalid(codes.source, ": expected [.., rows, blocks, ", kMxfp4BlockBytes, "], found ", codes.shape);
    }
    Shape expected, shape;
    if (rank == 3) {
      expected = {codes.shape[0], codes.shape[1]};
      shape = {codes.shape[0], codes.shape[1] * kMxfp4Block};
    } else {
      expected = {codes.shape[0], codes.shape[1], codes.shape[2]};
      shape = {codes.shape[0], codes.shape[1], codes.shape[2] * kMxfp4Block};
    }
    if (exponents.shape != expected) {
      return invalid(exponents.source, ": expected ", expected, ", found ", exponents.shape);
    }
    if (file_->has(base)) return invalid(codes.source, ": expected once, found plain too");
    entries_.emplace(base, Entry{DType::kBF16, shape, codes.source, true});
    bases_.insert(base);
    return {};
  }

  Result<Raw> read_raw(std::string_view name, const MatrixPart& part) const {
    const Entry& entry = entries_.find(name)->second;
    Raw out{{}, {}, entry.columns() / kMxfp4Block};
    HEARTH_ASSIGN(out.codes,
                  file_->read_rows(cat(name, "_blocks"), part.rows.begin * out.blocks, part.rows.size() * out.blocks));
    HEARTH_ASSIGN(out.exponents, file_->read_rows(cat(name, "_scales"), part.rows.begin, part.rows.size()));
    return out;
  }

  const std::shared_ptr<const Checkpoint> file_;
  std::set<std::string, std::less<>> bases_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> pair_mxfp4(std::shared_ptr<const Checkpoint> file) {
  auto out = std::make_shared<Mxfp4Checkpoint>(file);
  HEARTH_TRY(out->index());
  if (!out->any()) return file;
  return std::shared_ptr<const Checkpoint>(std::move(out));
}

}  // namespace hearth
