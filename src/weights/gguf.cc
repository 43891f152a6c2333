// Reads a GGUF file's directory with a cursor that never passes the end.
#include "weights/gguf.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/checked.h"

namespace hearth {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr int64_t kMaxKeyLength = 65535;
constexpr int64_t kMaxParts = 999;
constexpr int64_t kMaxDirectory = 1'000'000;  // keys or tensors; real files have thousands at most

class Cursor {
 public:
  Cursor(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  int64_t position() const { return static_cast<int64_t>(position_); }
  int64_t left() const { return static_cast<int64_t>(bytes_.size() - position_); }

  Result<std::string_view> take(int64_t size, std::string_view what) {
    if (size < 0 || size > left()) {
      return invalid(path_, ": ", what, " at byte ", position_, ": expected ", size, " more bytes, found ", left());
    }
    const std::string_view out = bytes_.substr(position_, static_cast<size_t>(size));
    position_ += static_cast<size_t>(size);
    return out;
  }
  template <typename T>
  Result<T> scalar(std::string_view what) {
    HEARTH_ASSIGN(const std::string_view raw, take(sizeof(T), what));
    T value;
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  // A count or length: at most `most`, each thing counted taking at least `least_bytes` of what is left.
  Result<int64_t> count(std::string_view what, int64_t most, int64_t least_bytes) {
    HEARTH_ASSIGN(const uint64_t n, scalar<uint64_t>(what));
    if (n > static_cast<uint64_t>(most) || n > static_cast<uint64_t>(left() / least_bytes)) {
      return invalid(path_, ": ", what, " at byte ", position_ - 8, ": expected at most ",
                     std::min(most, left() / least_bytes), ", found ", n);
    }
    return static_cast<int64_t>(n);
  }
  Result<std::string_view> string(std::string_view what, int64_t most) {
    HEARTH_ASSIGN(const int64_t size, count(what, most, 1));
    return take(size, what);
  }

 private:
  std::string_view bytes_;
  const std::string& path_;
  size_t position_ = 0;
};

int64_t scalar_size(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool: return 1;
    case GgufType::kU16:
    case GgufType::kI16: return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32: return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64: return 8;
    case GgufType::kString:
    case GgufType::kArray: return 0;
  }
  return -1;
}

template <typename T>
T load(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Of an integer type; nullopt for another type, or a u64 beyond int64.
std::optional<int64_t> integer_at(GgufType type, const char* p) {
  switch (type) {
    case GgufType::kU8: return load<uint8_t>(p);
    case GgufType::kI8: return load<int8_t>(p);
    case GgufType::kU16: return load<uint16_t>(p);
    case GgufType::kI16: return load<int16_t>(p);
    case GgufType::kU32: return load<uint32_t>(p);
    case GgufType::kI32: return load<int32_t>(p);
    case GgufType::kI64: return load<int64_t>(p);
    case GgufType::kU64:
      if (const uint64_t v = load<uint64_t>(p); v <= INT64_MAX) return static_cast<int64_t>(v);
      return std::nullopt;
    default: return std::nullopt;
  }
}

Result<GgufValue> read_value(Cursor& in, GgufType type, const std::string& where) {
  if (type == GgufType::kString) {
    HEARTH_ASSIGN(const std::string_view s, in.string(where, INT64_MAX));
    return GgufValue(s);
  }
  if (type == GgufType::kArray) {
    HEARTH_ASSIGN(const uint32_t element, in.scalar<uint32_t>(where));
    GgufArray array{static_cast<GgufType>(element), 0, {}};
    const int64_t size = scalar_size(array.type);
    if (size < 0 || array.type == GgufType::kArray) {
      return invalid(where, ": expected an array of scalars or strings, found element type ", element);
    }
    HEARTH_ASSIGN(array.count, in.count(where, INT64_MAX, std::max<int64_t>(size, 8 * (size == 0))));
    if (size > 0) {
      HEARTH_ASSIGN(array.bytes, in.take(array.count * size, where));
    } else {  // strings: walk them once, so that later walks need no checks
      Cursor walk = in;
      for (int64_t i = 0; i < array.count; ++i) HEARTH_TRY(walk.string(where, INT64_MAX));
      HEARTH_ASSIGN(array.bytes, in.take(walk.position() - in.position(), where));
    }
    return GgufValue(array);
  }
  const int64_t size = scalar_size(type);
  if (size < 0) return invalid(where, ": expected a value type of 0 to 12, found ", static_cast<uint32_t>(type));
  HEARTH_ASSIGN(const std::string_view raw, in.take(size, where));
  if (type == GgufType::kF32) return GgufValue(static_cast<double>(load<float>(raw.data())));
  if (type == GgufType::kF64) return GgufValue(load<double>(raw.data()));
  if (type == GgufType::kBool) {
    if (static_cast<uint8_t>(raw[0]) > 1) return invalid(where, ": expected a bool of 0 or 1, found ", int{raw[0]});
    return GgufValue(raw[0] == 1);
  }
  const std::optional<int64_t> value = integer_at(type, raw.data());
  if (!value) return invalid(where, ": expected an integer below 2^63");
  return GgufValue(*value);
}

struct Directory {
  GgufTensor tensor;
  int64_t offset;
  int64_t size;
};

Result<Directory> read_tensor_info(Cursor& in, const std::string& where, int64_t alignment) {
  Directory out{};
  HEARTH_ASSIGN(const uint32_t rank, in.scalar<uint32_t>(where));
  if (rank < 1 || rank > 4) return invalid(where, ": expected 1 to 4 dimensions, found ", rank);
  int64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    HEARTH_ASSIGN(const uint64_t dim, in.scalar<uint64_t>(where));
    const auto product =
        dim > 0 && dim <= INT64_MAX ? checked_mul(elements, static_cast<int64_t>(dim)) : std::optional<int64_t>();
    if (!product) return invalid(where, ": expected dimensions whose product is below 2^63, found ", dim);
    elements = *product;
    out.tensor.dims.push_back(static_cast<int64_t>(dim));
  }
  HEARTH_ASSIGN(const uint32_t type, in.scalar<uint32_t>(where));
  const GgmlTypeInfo* info = ggml_type_info(type);
  if (info == nullptr) {
    const std::string_view name = ggml_type_name(type);
    return unimplemented(where, ": expected one of the types ", ggml_type_names(), ", found ",
                         name.empty() ? cat("number ", type) : std::string(name));
  }
  out.tensor.type = static_cast<GgmlType>(type);
  if (out.tensor.dims[0] % info->block_elements != 0) {
    return invalid(where, ": ", info->name, " expected rows of a multiple of ", info->block_elements, ", found ",
                   out.tensor.dims[0]);
  }
  const auto size = checked_mul(elements / info->block_elements, info->block_bytes);
  if (!size) return invalid(where, ": expected fewer than 2^63 bytes");
  out.size = *size;
  HEARTH_ASSIGN(const uint64_t offset, in.scalar<uint64_t>(where));
  if (offset > INT64_MAX || static_cast<int64_t>(offset) % alignment != 0) {
    return invalid(where, ": expected an offset that is a multiple of ", alignment, ", found ", offset);
  }
  out.offset = static_cast<int64_t>(offset);
  return out;
}

Result<int64_t> part_integer(const std::map<std::string_view, GgufValue>& values, std::string_view key,
                             int64_t otherwise, const std::string& where) {
  const auto found = values.find(key);
  if (found == values.end()) return otherwise;
  const auto* value = std::get_if<int64_t>(&found->second);
  if (value == nullptr) return invalid(where, ": ", key, ": expected an integer, found another type");
  return *value;
}

}  // namespace

Status GgufFile::read_part(const MappedFile& part, Values& values) {
  const std::string& name = part.path();
  Cursor in(part.bytes(), name);
  HEARTH_ASSIGN(const std::string_view magic, in.take(4, "magic"));
  if (magic != "GGUF") return invalid(name, ": expected a GGUF file, found other first bytes");
  HEARTH_ASSIGN(const uint32_t version, in.scalar<uint32_t>("version"));
  if (version != 2 && version != 3) return invalid(name, ": expected GGUF version 2 or 3, found ", version);
  HEARTH_ASSIGN(const int64_t num_tensors, in.count("tensor count", kMaxDirectory, 24));
  HEARTH_ASSIGN(const int64_t num_values, in.count("metadata count", kMaxDirectory, 13));

  for (int64_t i = 0; i < num_values; ++i) {
    HEARTH_ASSIGN(const std::string_view key, in.string("metadata key", kMaxKeyLength));
    const std::string where = cat(name, ": ", printable(key));
    HEARTH_ASSIGN(const uint32_t type, in.scalar<uint32_t>(where));
    HEARTH_ASSIGN(GgufValue value, read_value(in, static_cast<GgufType>(type), where));
    if (!values.emplace(key, std::move(value)).second) return invalid(where, ": expected once, found twice");
  }
  HEARTH_ASSIGN(const int64_t alignment, part_integer(values, "general.alignment", 32, name));
  if (alignment < 8 || alignment > 65536 || !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return invalid(name, ": general.alignment: expected a power of two from 8 to 65536, found ", alignment);
  }

  std::vector<std::pair<std::string_view, Directory>> directory;
  for (int64_t i = 0; i < num_tensors; ++i) {
    HEARTH_ASSIGN(const std::string_view key, in.string("tensor name", kMaxKeyLength));
    const std::string where = cat(name, ": ", printable(key));
    HEARTH_ASSIGN(Directory entry, read_tensor_info(in, where, alignment));
    directory.emplace_back(key, std::move(entry));
  }
  const int64_t data_start = ceil_div(in.position(), alignment) * alignment;
  const int64_t data_size = part.size() - data_start;
  std::sort(directory.begin(), directory.end(),
            [](const auto& a, const auto& b) { return a.second.offset < b.second.offset; });
  int64_t end = 0;
  for (auto& [key, entry] : directory) {
    const std::string where = cat(name, ": ", printable(key));
    if (entry.offset > data_size || entry.size > data_size - entry.offset) {
      return invalid(where, ": expected ", entry.size, " bytes at ", entry.offset, " of the data, found ",
                     std::max<int64_t>(data_size, 0), " bytes of data");
    }
    if (entry.offset < end) {
      return invalid(where, ": expected data from byte ", end, " on, found it overlapping at ", entry.offset);
    }
    end = entry.offset + entry.size;
    entry.tensor.bytes =
        part.bytes().substr(static_cast<size_t>(data_start + entry.offset), static_cast<size_t>(entry.size));
    if (!tensors_.emplace(key, std::move(entry.tensor)).second) {
      return invalid(where, ": expected once, found twice");
    }
  }
  return {};
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  GgufFile out;
  HEARTH_ASSIGN(MappedFile first, MappedFile::open(path));
  out.parts_.push_back(std::move(first));
  HEARTH_TRY(out.read_part(out.parts_[0], out.values_));
  const std::string name = out.path();
  HEARTH_ASSIGN(const int64_t count, out.integer("split.count", 1));
  HEARTH_ASSIGN(const int64_t number, out.integer("split.no", 0));
  if (count <= 1) return out;
  const std::string file = path.filename().string();
  const std::string ending = gguf_part_ending(1, count);
  if (count > kMaxParts || number != 0 || !file.ends_with(ending)) {
    return invalid(name, ": a part of a split file, expected the first of at most ", kMaxParts, ", its name ending in ",
                   ending);
  }
  for (int64_t i = 1; i < count; ++i) {
    const std::string part_name = file.substr(0, file.size() - ending.size()) + gguf_part_ending(i + 1, count);
    HEARTH_ASSIGN(MappedFile part, MappedFile::open(path.parent_path() / part_name));
    out.parts_.push_back(std::move(part));
    const std::string& where = out.parts_.back().path();
    Values values;  // the first part has all that describe the model
    HEARTH_TRY(out.read_part(out.parts_.back(), values));
    HEARTH_ASSIGN(const int64_t its_number, part_integer(values, "split.no", -1, where));
    HEARTH_ASSIGN(const int64_t its_count, part_integer(values, "split.count", -1, where));
    if (its_number != i || its_count != count) {
      return invalid(where, ": expected to be part ", i + 1, " of ", count, ", found part ", its_number + 1, " of ",
                     its_count);
    }
  }
  const auto found = static_cast<int64_t>(out.tensors_.size());
  HEARTH_ASSIGN(const int64_t expected, out.integer("split.tensors.count", found));
  if (expected != found) return invalid(name, ": expected ", expected, " tensors in all parts, found ", found);
  return out;
}

std::string gguf_part_ending(int64_t number, int64_t count) {
  const auto digits = [](int64_t n) {
    const std::string text = std::to_string(n);
    return std::string(5 - std::min<size_t>(text.size(), 5), '0') + text;
  };
  return cat("-", digits(number), "-of-", digits(count), ".gguf");
}

int64_t gguf_part_number(std::string_view name) {
  const size_t size = gguf_part_ending(1, 1).size();
  if (name.size() < size) return 0;
  const std::string_view ending = name.substr(name.size() - size);
  int64_t number = 0, count = 0;
  std::from_chars(ending.data() + 1, ending.data() + 6, number);
  std::from_chars(ending.data() + 10, ending.data() + 15, count);
  return number > 0 && count > 0 && ending == gguf_part_ending(number, count) ? number : 0;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto at = values_.find(key);
  if (at == values_.end()) return nullptr;
  read_.insert(at->first);
  return &at->second;
}

std::vector<std::string_view> GgufFile::unread_keys() const {
  std::vector<std::string_view> out;
  for (const auto& entry : values_) {
    if (!read_.contains(entry.first)) out.push_back(entry.first);
  }
  return out;
}

std::optional<double> GgufFile::any_number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  if (const auto* integer = std::get_if<int64_t>(value)) return static_cast<double>(*integer);
  const auto* real = std::get_if<double>(value);
  return real == nullptr ? std::nullopt : std::optional(*real);
}

Status GgufFile::wrong(std::string_view key, const char* expected) const {
  return invalid(path(), ": ", key, ": expected ", expected, ", found ", has(key) ? "another type" : "nothing");
}

template <typename T>
Result<T> GgufFile::get(std::string_view key, const std::optional<T>& fallback, const char* expected) const {
  const GgufValue* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !std::holds_alternative<T>(*value)) return wrong(key, expected);
  return std::get<T>(*value);
}

Result<int64_t> GgufFile::integer(std::string_view key, std::optional<int64_t> fallback) const {
  return get<int64_t>(key, fallback, "an integer");
}
Result<double> GgufFile::number(std::string_view key, std::optional<double> fallback) const {
  return get<double>(key, fallback, "a float");
}
Result<bool> GgufFile::boolean(std::string_view key, std::optional<bool> fallback) const {
  return get<bool>(key, fallback, "a bool");
}
Result<std::string_view> GgufFile::string(std::string_view key, std::optional<std::string_view> fallback) const {
  return get<std::string_view>(key, fallback, "a string");
}

Result<const GgufArray*> GgufFile::array(std::string_view key) const {
  static constexpr GgufArray kEmpty{GgufType::kU8, 0, {}};
  const GgufValue* value = find(key);
  if (value == nullptr) return &kEmpty;
  if (!std::holds_alternative<GgufArray>(*value)) return wrong(key, "an array");
  return &std::get<GgufArray>(*value);
}

Result<std::vector<std::string_view>> GgufFile::strings(std::string_view key) const {
  HEARTH_ASSIGN(const GgufArray* from, array(key));
  if (from->count > 0 && from->type != GgufType::kString) return wrong(key, "an array of strings");
  std::vector<std::string_view> out;
  out.reserve(static_cast<size_t>(from->count));
  std::string_view rest = from->bytes;
  for (int64_t i = 0; i < from->count; ++i) {
    const size_t size = load<uint64_t>(rest.data());
    out.push_back(rest.substr(8, size));
    rest.remove_prefix(8 + size);
  }
  return out;
}

Result<std::vector<float>> GgufFile::floats(std::string_view key) const {
  HEARTH_ASSIGN(const GgufArray* from, array(key));
  if (from->count > 0 && from->type != GgufType::kF32) return wrong(key, "an array of float32");
  std::vector<float> out(static_cast<size_t>(from->count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = load<float>(from->bytes.data() + i * 4);
  return out;
}

Result<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
  HEARTH_ASSIGN(const GgufArray* from, array(key));
  std::vector<int64_t> out(static_cast<size_t>(from->count));
  for (size_t i = 0; i < out.size(); ++i) {
    const auto value = integer_at(from->type, from->bytes.data() + i * static_cast<size_t>(scalar_size(from->type)));
    if (!value) return wrong(key, "an array of integers");
    out[i] = *value;
  }
  return out;
}

Result<GgufTokenizer> read_gguf_tokenizer(const GgufFile& file) {
  GgufTokenizer out;
  HEARTH_ASSIGN(out.model, file.string("tokenizer.ggml.model"));
  HEARTH_ASSIGN(out.pre, file.string("tokenizer.ggml.pre", "default"));
  HEARTH_ASSIGN(out.tokens, file.strings("tokenizer.ggml.tokens"));
  HEARTH_ASSIGN(out.scores, file.floats("tokenizer.ggml.scores"));
  HEARTH_ASSIGN(out.types, file.integers("tokenizer.ggml.token_type"));
  HEARTH_ASSIGN(out.merges, file.strings("tokenizer.ggml.merges"));
  HEARTH_ASSIGN(out.chat_template, file.string("tokenizer.chat_template", ""));
  const int64_t num_tokens = static_cast<int64_t>(out.tokens.size());
  if (num_tokens == 0) return invalid(file.path(), ": tokenizer.ggml.tokens: expected a vocabulary, found none");
  for (int64_t i = 0; i < num_tokens; ++i) {
    if (out.tokens[static_cast<size_t>(i)].empty()) {
      return invalid(file.path(), ": tokenizer.ggml.tokens: expected a text for every token, found none for ", i);
    }
  }
  for (const auto& [key, size] : {std::pair{"tokenizer.ggml.scores", out.scores.size()},
                                  std::pair{"tokenizer.ggml.token_type", out.types.size()}}) {
    if (size != 0 && size != out.tokens.size()) {
      return invalid(file.path(), ": ", key, ": expected ", num_tokens, " entries, found ", size);
    }
  }
  for (const auto& [key, id] :
       {std::pair{"tokenizer.ggml.bos_token_id", &out.bos}, std::pair{"tokenizer.ggml.eos_token_id", &out.eos},
        std::pair{"tokenizer.ggml.eot_token_id", &out.eot}, std::pair{"tokenizer.ggml.eom_token_id", &out.eom},
        std::pair{"tokenizer.ggml.unknown_token_id", &out.unknown},
        std::pair{"tokenizer.ggml.padding_token_id", &out.padding}}) {
    if (!file.has(key)) continue;
    HEARTH_ASSIGN(*id, file.integer(key));
    if (**id < 0 || **id >= num_tokens) {
      return invalid(file.path(), ": ", key, ": expected an id below ", num_tokens, ", found ", **id);
    }
  }
  for (const auto& [key, flag] : {std::pair{"tokenizer.ggml.add_bos_token", &out.add_bos},
                                  std::pair{"tokenizer.ggml.add_eos_token", &out.add_eos},
                                  std::pair{"tokenizer.ggml.add_space_prefix", &out.add_space_prefix}}) {
    if (!file.has(key)) continue;
    HEARTH_ASSIGN(*flag, file.boolean(key));
  }
  return out;
}

}  // namespace hearth
