// The 8 bytes, the JSON header and the offsets of a .safetensors file.
#include "weights/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "base/json.h"

namespace hearth {
namespace {

constexpr int64_t kMaxHeader = 100'000'000;  // the reference implementation's limit

std::optional<DType> dtype_of(std::string_view name) {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kE4M3, DType::kI8, DType::kU8, DType::kI32, DType::kI64}) {
    if (name == safetensors_dtype(dtype)) return dtype;
  }
  return std::nullopt;
}

std::optional<int64_t> size_of(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return std::nullopt;
  const int64_t size = value.get<int64_t>();
  return size < 0 ? std::nullopt : std::optional(size);
}

struct Extent {
  Tensor tensor;
  int64_t begin, end;
};

Result<Extent> read_entry(const Json& entry, const std::string& where) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets")) {
    return invalid(where, ": expected an object of dtype, shape and data_offsets, found other members");
  }
  const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  Extent out{};
  const auto known = dtype.is_string() ? dtype_of(dtype.get_ref<const std::string&>()) : std::nullopt;
  if (!known) {
    return invalid(where, ": expected dtype F32, F16, BF16, F8_E4M3, I8, U8, I32 or I64, found ",
                   dtype.is_string() ? printable(dtype.get_ref<const std::string&>()) : "no string");
  }
  out.tensor.dtype = *known;
  if (!shape.is_array() || shape.size() > Shape::kMaxRank) {
    return invalid(where, ": expected a shape of at most ", int{Shape::kMaxRank}, " dimensions, found ",
                   shape.is_array() ? cat(shape.size()) : "no array");
  }
  int64_t dims[Shape::kMaxRank];
  std::optional<int64_t> bytes = dtype_size(*known);
  for (size_t i = 0; i < shape.size(); ++i) {
    const auto dim = size_of(shape[i]);
    if (!dim) return invalid(where, ": expected dimensions of 0 or more, found another value at ", i);
    dims[i] = *dim;
    bytes = bytes ? checked_mul(*bytes, *dim) : std::nullopt;
    if (!bytes) return invalid(where, ": expected fewer than 2^63 bytes, found a larger product of dimensions");
  }
  switch (shape.size()) {
    case 0: break;
    case 1: out.tensor.shape = {dims[0]}; break;
    case 2: out.tensor.shape = {dims[0], dims[1]}; break;
    case 3: out.tensor.shape = {dims[0], dims[1], dims[2]}; break;
    case 4: out.tensor.shape = {dims[0], dims[1], dims[2], dims[3]}; break;
  }
  const auto begin = offsets.is_array() && offsets.size() == 2 ? size_of(offsets[0]) : std::nullopt;
  const auto end = begin ? size_of(offsets[1]) : std::nullopt;
  if (!end) return invalid(where, ": expected data_offsets of two integers of 0 or more");
  if (*end < *begin) return invalid(where, ": expected data_offsets in order, found ", *begin, " before ", *end);
  if (*end - *begin != *bytes) {
    return invalid(where, ": expected ", *bytes, " bytes for ", dtype_name(*known), " ", out.tensor.shape, ", found ",
                   *end - *begin);
  }
  out.begin = *begin;
  out.end = *end;
  return out;
}

}  // namespace

std::string_view safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kF16: return "F16";
    case DType::kBF16: return "BF16";
    case DType::kE4M3: return "F8_E4M3";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
    case DType::kI32: return "I32";
    case DType::kI64: return "I64";
  }
  return "?";
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  HEARTH_ASSIGN(MappedFile file, MappedFile::open(path));
  SafetensorsFile out(std::move(file));
  HEARTH_TRY(out.read_directory());
  return out;
}

Status SafetensorsFile::read_directory() {
  const std::string_view bytes = file_.bytes();
  if (bytes.size() < 8) return invalid(path(), ": expected 8 bytes of header size, found ", bytes.size(), " bytes");
  uint64_t header_size;
  std::memcpy(&header_size, bytes.data(), 8);
  const uint64_t most = std::min<uint64_t>(bytes.size() - 8, kMaxHeader);
  if (header_size > most) {
    return invalid(path(), ": expected a header of at most ", most, " bytes, found ", header_size);
  }
  auto parsed = parse_json(bytes.substr(8, header_size), {.max_depth = 4});
  if (!parsed.ok()) return parsed.status().prefixed(cat(path(), ": header"));
  const std::string_view data = bytes.substr(8 + header_size);

  std::vector<std::pair<const std::string*, Extent>> extents;
  for (const auto& [name, entry] : parsed->items()) {
    if (name == "__metadata__") continue;
    HEARTH_ASSIGN(const Extent extent, read_entry(entry, cat(path(), ": ", printable(name))));
    extents.emplace_back(&name, extent);
  }
  std::sort(extents.begin(), extents.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.begin, a.second.end) < std::pair(b.second.begin, b.second.end);
  });
  int64_t end = 0;
  for (auto& [name, extent] : extents) {
    if (extent.begin != end) {
      return invalid(path(), ": ", printable(*name), ": expected data from byte ", end, ", found it at ", extent.begin);
    }
    if (extent.end > static_cast<int64_t>(data.size())) {
      return invalid(path(), ": ", printable(*name), ": expected data up to byte ", extent.end, ", found ", data.size(),
                     " bytes of data");
    }
    end = extent.end;
    extent.tensor.data = const_cast<char*>(data.data() + extent.begin);
    tensors_.emplace(*name, extent.tensor);
  }
  if (end != static_cast<int64_t>(data.size())) {
    return invalid(path(), ": expected ", end, " bytes of data, found ", data.size());
  }
  return {};
}

}  // namespace hearth
