// A GGUF file of the llama architecture under Hugging Face names: stacked experts are taken apart, the row order of q
// and k is put back, quantized matrices become float16.
#include <charconv>
#include <cmath>
#include <cstring>
#include <span>

#include "base/checked.h"
#include "weights/checkpoint.h"
#include "weights/gguf.h"

namespace hearth {
namespace {

// Rows [first_row, first_row + rows) of a tensor seen as a matrix.
struct Slice {
  const GgufTensor* tensor;
  int64_t first_row;
  int64_t rows;
  int64_t columns;
  int64_t interleaved_heads;  // 0: rows are in order
};

// GGUF keeps the rows of a rotary head as pairs (0, half), (1, half + 1), ...; Hugging Face keeps the first halves of
// all pairs first.
int64_t source_row(const Slice& s, int64_t row) {
  if (s.interleaved_heads == 0) return s.first_row + row;
  const int64_t head_rows = s.rows / s.interleaved_heads, half = head_rows / 2;
  const int64_t head = row / head_rows, in_head = row % head_rows;
  return s.first_row + head * head_rows + in_head % half * 2 + in_head / half;
}

struct Rename {
  std::string_view gguf, hugging_face;
};
constexpr Rename kTop[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                           {"output_norm.weight", "model.norm.weight"},
                           {"output.weight", "lm_head.weight"}};
constexpr Rename kLayer[] = {{"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
                             {"attn_q", "self_attn.q_proj"},   {"attn_k", "self_attn.k_proj"},
                             {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"},
                             {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
                             {"ffn_down", "mlp.down_proj"},    {"ffn_gate_inp", "block_sparse_moe.gate"}};
constexpr Rename kExpert[] = {{"ffn_gate", "w1"}, {"ffn_down", "w2"}, {"ffn_up", "w3"}};

std::string_view look_up(std::span<const Rename> table, std::string_view name) {
  for (const Rename& r : table) {
    if (r.gguf == name) return r.hugging_face;
  }
  return {};
}

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) { path_ = file_->path(); }

  Status index() {
    HEARTH_ASSIGN(const std::string_view architecture, file_->string("general.architecture"));
    if (architecture != "llama") {
      return unimplemented(path_, ": general.architecture: expected llama, found ", printable(architecture));
    }
    HEARTH_ASSIGN(const int64_t heads, head_count("llama.attention.head_count", {}));
    HEARTH_ASSIGN(const int64_t kv_heads, head_count("llama.attention.head_count_kv", heads));
    for (const auto& [name, tensor] : file_->tensors()) HEARTH_TRY(add(name, tensor, heads, kv_heads));
    return {};
  }

  Result<HostTensor> read(std::string_view name) const override {
    const Slice& s = slices_.find(name)->second;
    const Entry& entry = entries_.find(name)->second;
    const GgmlTypeInfo& info = *ggml_type_info(static_cast<uint32_t>(s.tensor->type));
    const int64_t row_bytes = s.columns / info.block_elements * info.block_bytes;
    HostTensor out;
    out.view.dtype = entry.dtype;
    out.view.shape = entry.shape;
    if (info.block_elements == 1 && s.interleaved_heads == 0) {
      out.view.data = const_cast<char*>(s.tensor->bytes.data() + s.first_row * row_bytes);
      out.owner = file_;
      return out;
    }
    const size_t out_row_bytes = static_cast<size_t>(s.columns * dtype_size(entry.dtype));
    auto memory = std::make_shared_for_overwrite<char[]>(static_cast<size_t>(out.view.bytes()));
    std::vector<float> row(static_cast<size_t>(s.columns));
    for (int64_t r = 0; r < s.rows; ++r) {
      const char* from = s.tensor->bytes.data() + source_row(s, r) * row_bytes;
      char* to = memory.get() + static_cast<size_t>(r) * out_row_bytes;
      if (info.block_elements == 1) {
        std::memcpy(to, from, out_row_bytes);
        continue;
      }
      dequantize_ggml(s.tensor->type, from, s.columns, row.data());
      F16* halves = reinterpret_cast<F16*>(to);
      bool finite = true;
      for (size_t c = 0; c < row.size(); ++c) {
        halves[c] = to_f16(row[c]);
        finite &= (halves[c].bits & 0x7C00) != 0x7C00;
      }
      if (!finite) return invalid(entry.source, ": expected values within float16, found others in row ", r);
    }
    out.view.data = memory.get();
    out.owner = std::move(memory);
    return out;
  }

  const GgufFile* gguf() const override { return file_.get(); }

 private:
  Result<int64_t> head_count(const char* key, std::optional<int64_t> fallback) const {
    constexpr int64_t kMost = 4096;
    HEARTH_ASSIGN(const int64_t found, file_->integer(key, fallback));
    if (found >= 1 && found <= kMost) return found;
    return invalid(path_, ": ", key, ": expected an integer from 1 to ", kMost, ", found ", found);
  }

  Status add(std::string_view name, const GgufTensor& tensor, int64_t heads, int64_t kv_heads) {
    const int64_t columns = tensor.dims[0];
    int64_t rows = 1;
    for (size_t i = 1; i < tensor.dims.size(); ++i) rows *= tensor.dims[i];
    const Shape shape = tensor.dims.size() == 1 ? Shape{columns} : Shape{rows, columns};

    if (const std::string_view top = look_up(kTop, name); !top.empty()) {
      return insert(std::string(top), name, shape, {&tensor, 0, rows, columns, 0});
    }
    // blk.LAYER.PART.weight, or blk.LAYER.PART.EXPERT.weight in older Mixtral files
    std::string_view words[5];
    const int count = split(name, words);
    if (words[0] == "blk" && count == 4) {
      const std::string layer = cat("model.layers.", words[1], ".");
      if (const std::string_view part = look_up(kLayer, words[2]); !part.empty()) {
        const int64_t interleaved = words[2] == "attn_q" ? heads : words[2] == "attn_k" ? kv_heads : 0;
        Slice slice{&tensor, 0, rows, columns, interleaved};
        if (tensor.dims.size() == 1 && interleaved != 0) std::swap(slice.rows, slice.columns);  // a bias
        if (interleaved > 0 && slice.rows % (2 * interleaved) != 0) {
          return invalid(path_, ": ", printable(name), ": expected rows of ", interleaved, " heads, found ",
                         slice.rows);
        }
        return insert(cat(layer, part, ".", words[3]), name, shape, slice);
      }
      if (words[2].ends_with("_exps") && tensor.dims.size() == 3) {
        const std::string_view part = look_up(kExpert, words[2].substr(0, words[2].size() - 5));
        const int64_t experts = tensor.dims[2], expert_rows = tensor.dims[1];
        if (!part.empty() && words[3] == "weight" && experts <= 4096) {
          for (int64_t e = 0; e < experts; ++e) {
            HEARTH_TRY(insert(cat(layer, "block_sparse_moe.experts.", e, ".", part, ".weight"), name,
                              {expert_rows, columns}, {&tensor, e * expert_rows, expert_rows, columns, 0}));
          }
          return {};
        }
      }
    }
    if (words[0] == "blk" && count == 5) {
      if (const std::string_view part = look_up(kExpert, words[2]); !part.empty()) {
        return insert(cat("model.layers.", words[1], ".block_sparse_moe.experts.", words[3], ".", part, ".", words[4]),
                      name, shape, {&tensor, 0, rows, columns, 0});
      }
    }
    return insert(std::string(name), name, shape, {&tensor, 0, rows, columns, 0});
  }

  static int split(std::string_view name, std::string_view (&words)[5]) {
    int count = 0;
    while (count < 5) {
      const size_t dot = name.find('.');
      words[count++] = name.substr(0, dot);
      if (dot == name.npos) return count;
      name.remove_prefix(dot + 1);
    }
    return 6;  // more words than any name has
  }

  Status insert(std::string hugging_face, std::string_view name, const Shape& shape, const Slice& slice) {
    DType dtype = DType::kF16;
    if (slice.tensor->type == GgmlType::kF32) dtype = DType::kF32;
    if (slice.tensor->type == GgmlType::kBF16) dtype = DType::kBF16;
    const std::string source = cat(path_, ": ", printable(name));
    if (!entries_.emplace(hugging_face, Entry{dtype, shape, source}).second) {
      return invalid(source, ": expected once, found under two names");
    }
    slices_.emplace(std::move(hugging_face), slice);
    return {};
  }

  std::shared_ptr<const GgufFile> file_;
  std::map<std::string, Slice, std::less<>> slices_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> open_gguf_checkpoint(const std::filesystem::path& path) {
  HEARTH_ASSIGN(GgufFile file, GgufFile::open(path));
  auto out = std::make_shared<GgufCheckpoint>(std::make_shared<GgufFile>(std::move(file)));
  HEARTH_TRY(out->index());
  return std::shared_ptr<const Checkpoint>(std::move(out));
}

}  // namespace hearth
