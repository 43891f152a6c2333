// GgufFile: typed metadata and tensor directory of a GGUF file, versions 2 and 3, little-endian. Everything is checked
// against the file's size before it is used; strings and arrays are views into the mapped file.
// Source of the format: github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "weights/ggml_quant.h"
#include "weights/mapped_file.h"

namespace hearth {

enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

struct GgufArray {
  GgufType type;  // of its elements; never kArray
  int64_t count;
  std::string_view bytes;
};
// Integers of every width are int64 (a u64 beyond it is refused), floats double.
using GgufValue = std::variant<bool, int64_t, double, std::string_view, GgufArray>;

struct GgufTensor {
  GgmlType type;
  std::vector<int64_t> dims;  // as in the file: the contiguous dimension first; 1 to 4
  std::string_view bytes;
};

class GgufFile {
 public:
  // Of a file in parts, the first: "...-00001-of-00003.gguf"; the others lie beside it.
  static Result<GgufFile> open(const std::filesystem::path& path);

  const std::string& path() const { return parts_[0].path(); }
  const std::map<std::string_view, GgufTensor>& tensors() const { return tensors_; }

  // Errors name the file and the key. A missing key is an error where there is no fallback.
  bool has(std::string_view key) const { return values_.contains(key); }
  // Keys whose values none of the functions below was asked for so far.
  std::vector<std::string_view> unread_keys() const;
  Result<int64_t> integer(std::string_view key, std::optional<int64_t> fallback = {}) const;
  Result<double> number(std::string_view key, std::optional<double> fallback = {}) const;
  Result<bool> boolean(std::string_view key, std::optional<bool> fallback = {}) const;
  Result<std::string_view> string(std::string_view key, std::optional<std::string_view> fallback = {}) const;
  // Empty where the key is missing.
  Result<std::vector<std::string_view>> strings(std::string_view key) const;
  Result<std::vector<float>> floats(std::string_view key) const;
  Result<std::vector<int64_t>> integers(std::string_view key) const;
  // A scalar of any type but string; none where there is no such.
  std::optional<double> any_number(std::string_view key) const;

 private:
  using Values = std::map<std::string_view, GgufValue>;
  GgufFile() = default;
  Status read_part(const MappedFile& part, Values& values);
  const GgufValue* find(std::string_view key) const;
  template <typename T>
  Result<T> get(std::string_view key, const std::optional<T>& fallback, const char* expected) const;
  Result<const GgufArray*> array(std::string_view key) const;
  Status wrong(std::string_view key, const char* expected) const;

  std::vector<MappedFile> parts_;
  Values values_;
  std::map<std::string_view, GgufTensor> tensors_;
  mutable std::set<std::string_view> read_;  // by the thread that loads
};

// "-00001-of-00003.gguf"
std::string gguf_part_ending(int64_t number, int64_t count);
// From 1 on; 0 for the name of no part.
int64_t gguf_part_number(std::string_view name);

// A vocabulary as GGUF stores it, checked for lengths and ids; text/ makes a tokenizer of it. Views live as long as the
// file.
struct GgufTokenizer {
  std::string_view model, pre;  // "gpt2" and "smollm", "llama" and "default", ...
  std::vector<std::string_view> tokens;
  std::vector<float> scores;   // of each token, or empty
  std::vector<int64_t> types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; or empty
  std::vector<std::string_view> merges;
  std::optional<int64_t> bos, eos, eot, eom, unknown, padding;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string_view chat_template;  // or empty
};
Result<GgufTokenizer> read_gguf_tokenizer(const GgufFile& file);

}  // namespace hearth
