// Rules applied to every tensor of a file when it is opened; reading goes to the file.
#include "weights/name_map.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "tensor/host_matrix.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

using Numbers = std::vector<std::string_view>;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// What follows `pattern` at the front of `name`, whose numbers are added to `numbers`; none where it is not there.
std::optional<std::string_view> match(std::string_view pattern, std::string_view name, Numbers& numbers) {
  for (const char c : pattern) {
    if (c != '#') {
      if (name.empty() || name[0] != c) return {};
      name.remove_prefix(1);
      continue;
    }
    size_t digits = 0;
    while (digits < name.size() && is_digit(name[digits])) ++digits;
    if (digits == 0) return {};
    numbers.push_back(name.substr(0, digits));
    name.remove_prefix(digits);
  }
  return name;
}

std::string fill(std::string_view pattern, const Numbers& numbers) {
  std::string out;
  size_t next = 0;
  for (const char c : pattern) {
    if (c == '#') {
      out += numbers[next++];
    } else {
      out += c;
    }
  }
  return out;
}

bool is_stacked(const NameRule& rule) { return std::ranges::count(rule.own, '#') > std::ranges::count(rule.file, '#'); }

class RenamedCheckpoint final : public Checkpoint {
 public:
  RenamedCheckpoint(std::shared_ptr<const Checkpoint> file, std::span<const NameRule> rules, const HeadCounts& heads)
      : file_(std::move(file)), rules_(rules.begin(), rules.end()), heads_(heads) {
    path_ = file_->path();
  }

  Status index(std::span<const std::string> unused) {
    for (const auto& [name, entry] : file_->entries()) {
      const auto starts_it = [&name = name](const std::string& front) { return name.starts_with(front); };
      if (std::ranges::none_of(unused, starts_it)) HEARTH_TRY(add(name, entry));
    }
    return check_fused_scales();
  }

  Result<HostTensor> read_rows(std::string_view name, int64_t first, int64_t count) const override {
    const Piece& piece = pieces_.find(name)->second;
    HEARTH_CHECK(first >= 0 && first + count <= piece.rows);
    if (piece.is_part()) return read_part(name, {{first, first + count}, {0, entries_.find(name)->second.columns()}});
    if (piece.paired_heads == 0) return file_->read_rows(piece.name, piece.first_row + first, count);
    const int64_t head_rows = piece.rows / piece.paired_heads, half = head_rows / 2;
    HEARTH_CHECK(first % head_rows == 0 && count % head_rows == 0);
    HEARTH_ASSIGN(const HostTensor paired, file_->read_rows(piece.name, piece.first_row + first, count));
    HostTensor out{paired.view, std::make_shared_for_overwrite<char[]>(static_cast<size_t>(paired.view.bytes()))};
    out.view.data = const_cast<void*>(out.owner.get());
    for (int64_t row = 0; row < count; ++row) {
      const int64_t in_head = row % head_rows;
      const Tensor from = paired.view.rows(row - in_head + in_head % half * 2 + in_head / half, 1);
      std::memcpy(out.view.rows(row, 1).data, from.data, static_cast<size_t>(from.bytes()));
    }
    return out;
  }

  Result<HostTensor> read_part(std::string_view name, const MatrixPart& part) const override {
    const Piece& piece = pieces_.find(name)->second;
    if (piece.paired_heads != 0) return Checkpoint::read_part(name, part);
    HEARTH_CHECK(part.rows.end <= piece.rows && part.row_step == 1);
    if (piece.columns_first) return read_turned(piece, part);
    return file_->read_part(piece.name, part_in_file(piece, part));
  }

  Result<ScaledRows> read_scaled(std::string_view name, const MatrixPart& part) const override {
    const Piece& piece = pieces_.find(name)->second;
    HEARTH_CHECK(part.rows.end <= piece.rows && part.row_step == 1 && piece.paired_heads == 0 && !piece.columns_first);
    return file_->read_scaled(piece.name, part_in_file(piece, part));
  }

  const GgufFile* gguf() const override { return file_->gguf(); }

  std::string name_in_file(std::string_view name) const override {
    for (const bool stacked : {false, true}) {
      for (const NameRule& rule : rules_) {
        // Of two matrices in one tensor neither is called as that.
        if (is_stacked(rule) != stacked || (!stacked && !rule.second.empty())) continue;
        Numbers numbers;
        const auto rest = match(rule.own, name, numbers);
        if (rest && (rest->empty() || rest->front() == '.')) return fill(rule.file, numbers).append(*rest);
      }
    }
    return std::string(name);
  }

 private:
  struct Piece {
    std::string_view name;  // in the file
    int64_t first_row, rows;
    int64_t paired_heads = 0;    // 0: rows are in order
    int64_t row_step = 1;        // in the file
    bool columns_first = false;  // rows are the file's columns from first_column on, columns its rows from first_row on
    int64_t first_column = 0;
    bool is_part() const { return columns_first || row_step != 1; }
  };
  struct FusedScales {
    std::string weight;  // the first expert's
    int64_t rows;        // of scales, for one of the two halves
    std::string source;
  };

  static MatrixPart part_in_file(const Piece& piece, const MatrixPart& part) {
    const int64_t first = piece.first_row + part.rows.begin * piece.row_step;
    return {{first, first + part.rows.size() * piece.row_step - (piece.row_step - 1)}, part.columns, piece.row_step};
  }

  Result<HostTensor> read_turned(const Piece& piece, const MatrixPart& part) const {
    HEARTH_ASSIGN(const HostTensor all,
                  file_->read_rows(piece.name, piece.first_row + part.columns.begin, part.columns.size()));
    HostTensor out{{nullptr, all.view.dtype, part.shape()}, nullptr};
    const int64_t element = dtype_size(all.view.dtype), from_row = all.view.dim(1) * element;
    auto memory = std::make_shared_for_overwrite<char[]>(static_cast<size_t>(out.view.bytes()));
    const auto turn = [&]<typename T>(T) {
      const T* from = static_cast<const T*>(all.view.data) + piece.first_column + part.rows.begin * piece.row_step;
      T* to = reinterpret_cast<T*>(memory.get());
      for (int64_t row = 0; row < part.rows.size(); ++row) {
        for (int64_t column = 0; column < part.columns.size(); ++column) {
          *to++ = from[column * (from_row / element) + row * piece.row_step];
        }
      }
    };
    switch (element) {
      case 1: turn(uint8_t{}); break;
      case 2: turn(uint16_t{}); break;
      case 4: turn(uint32_t{}); break;
      default: turn(uint64_t{});
    }
    out.view.data = memory.get();
    out.owner = std::move(memory);
    return out;
  }

  Status add(const std::string& name, const Entry& entry) {
    const NameRule* best = nullptr;
    Numbers numbers;
    std::string_view rest;
    for (const NameRule& rule : rules_) {
      if (best != nullptr && rule.file.size() <= best->file.size()) continue;
      Numbers found;
      const auto behind = match(rule.file, name, found);
      const bool fits =
          behind && (behind->empty() || behind->starts_with('.') || (is_stacked(rule) && behind->starts_with('_')));
      if (fits) best = &rule, numbers = found, rest = *behind;
    }
    if (best == nullptr) return insert(name, entry.shape, entry, {name, 0, entry.rows()});
    if (is_stacked(*best)) return add_stacked(*best, numbers, rest, name, entry);
    if (!best->second.empty()) return add_halves(*best, numbers, rest, name, entry);
    int64_t heads = 0;
    if (best->order == RowOrder::kQueryPairs) heads = heads_.heads;
    if (best->order == RowOrder::kKeyPairs) heads = heads_.kv_heads;
    if (heads > 0 && entry.rows() % (2 * heads) != 0) {
      return invalid(entry.source, ": expected rows of ", heads, " heads, found ", entry.rows());
    }
    return insert(fill(best->own, numbers).append(rest), entry.shape, entry, {name, 0, entry.rows(), heads});
  }

  // Two matrices, one behind the other.
  Status add_halves(const NameRule& rule, const Numbers& numbers, std::string_view rest, std::string_view name,
                    const Entry& entry) {
    const int64_t rows = entry.rows(), half = rows > 1 ? rows / 2 : 0;  // one scale serves both
    if (rows > 1 && rows % 2 != 0) return invalid(entry.source, ": expected an even number of rows, found ", rows);
    Shape shape = entry.shape;
    if (half > 0) shape = shape.rank() < 2 ? Shape{half} : Shape{half, entry.columns()};
    if (half > 1 && rest.starts_with(".weight_")) {
      fused_scales_.push_back({fill(rule.own, numbers).append(".weight"), half, entry.source});
    }
    HEARTH_TRY(insert(fill(rule.own, numbers).append(rest), shape, entry, {name, 0, rows - half}));
    return insert(fill(rule.second, numbers).append(rest), shape, entry, {name, half, rows - half});
  }

  Status add_stacked(const NameRule& rule, Numbers numbers, std::string_view rest, std::string_view name,
                     const Entry& entry) {
    const bool activation = rest == "_activation_scale", bias = rest == "_bias" || rest == ".bias";
    std::string suffix(rest);
    if (!activation && !bias && !rest.starts_with('.')) suffix = cat(".weight", rest);
    if (activation || bias) suffix[0] = '.';
    if (entry.shape.rank() != (activation ? 1 : bias ? 2 : 3) || entry.shape[0] > 4096) {
      return invalid(entry.source,
                     activation ? ": expected [experts], found "
                     : bias     ? ": expected [experts, rows], found "
                                : ": expected [experts, rows, columns], found ",
                     entry.shape);
    }
    const bool columns_first = bias || (rule.columns_first && !entry.mxfp4 && rest.empty());
    const int64_t rows = activation ? 1 : columns_first && !bias ? entry.shape[2] : entry.shape[1];
    const int64_t columns = activation || bias ? 1 : entry.shape[columns_first ? 1 : 2];
    const bool halves = !rule.second.empty();
    if (halves && rows > 1 && rows % 2 != 0) {
      return invalid(entry.source, ": expected an even number of rows, found ", rows);
    }
    const int64_t half = halves && rows > 1 ? rows / 2 : 0;  // one scale serves both
    for (int64_t e = 0; e < entry.shape[0]; ++e) {
      const std::string expert = std::to_string(e);
      numbers.push_back(expert);
      const bool in_turns = rule.order == RowOrder::kInTurns && half > 0;
      const auto put = [&](std::string_view own, bool is_second) {
        const Shape shape = activation || bias ? Shape{rows - half} : Shape{rows - half, columns};
        const int64_t first = !is_second ? 0 : in_turns ? 1 : half;
        Piece piece{.name = name, .rows = rows - half, .row_step = in_turns ? 2 : 1, .columns_first = columns_first};
        piece.first_row = columns_first ? e * columns : e * rows + first;
        piece.first_column = columns_first ? first : 0;
        return insert(fill(own, numbers).append(suffix), shape, entry, piece);
      };
      if (e == 0 && half > 1 && suffix != ".weight" && !bias) {
        fused_scales_.push_back({fill(rule.own, numbers).append(".weight"), half, entry.source});
      }
      HEARTH_TRY(put(rule.own, false));
      if (halves) HEARTH_TRY(put(rule.second, true));
      numbers.pop_back();
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

  // `piece.name` is a key of the file's entries.
  Status insert(std::string own, const Shape& shape, const Entry& entry, const Piece& piece) {
    if (!entries_.emplace(own, Entry{entry.dtype, shape, entry.source, entry.mxfp4}).second) {
      return invalid(entry.source, ": expected once, found under two names");
    }
    pieces_.emplace(std::move(own), piece);
    return {};
  }

  const std::shared_ptr<const Checkpoint> file_;
  const std::vector<NameRule> rules_;
  const HeadCounts heads_;
  std::map<std::string, Piece, std::less<>> pieces_;
  std::vector<FusedScales> fused_scales_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> rename_tensors(std::shared_ptr<const Checkpoint> file,
                                                         std::span<const NameRule> rules, const HeadCounts& heads,
                                                         std::span<const std::string> unused) {
  auto out = std::make_shared<RenamedCheckpoint>(std::move(file), rules, heads);
  HEARTH_TRY(out->index(unused));
  return std::shared_ptr<const Checkpoint>(std::move(out));
}

}  // namespace hearth
