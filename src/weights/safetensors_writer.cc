// The header, and every tensor at its place. Wide types stand first, so that each is aligned to its own size.
#include "weights/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/json.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"

namespace hearth {
namespace {

constexpr int64_t kAlignment = 8;  // of the data

std::vector<int64_t> dims(const Shape& shape) {
  std::vector<int64_t> out;
  for (int i = 0; i < shape.rank(); ++i) out.push_back(shape[i]);
  return out;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), places_(std::move(other.places_)) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ >= 0) close(file_);
}

Status SafetensorsWriter::failed(const char* what) const {
  const int error = errno;
  return Status(error == ENOSPC || error == EDQUOT ? Code::kResourceExhausted : Code::kInvalidArgument,
                cat(printable(path_.string()), ": ", what, ": ", std::generic_category().message(error)));
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    std::vector<SafetensorsEntry> entries) {
  std::ranges::stable_sort(entries, std::greater(), [](const SafetensorsEntry& e) { return dtype_size(e.dtype); });
  SafetensorsWriter out(path);
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    const int64_t bytes = entry.bytes();
    HEARTH_CHECK(out.places_.emplace(entry.name, Place{end, bytes}).second);
    header[entry.name] = {
        {"dtype", safetensors_dtype(entry.dtype)}, {"shape", dims(entry.shape)}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  std::string text = header.dump();
  text.resize(static_cast<size_t>(ceil_div(std::ssize(text), kAlignment) * kAlignment), ' ');
  const auto size = static_cast<uint64_t>(text.size());
  text.insert(0, reinterpret_cast<const char*>(&size), sizeof size);
  const auto data = std::ssize(text);
  for (auto& [name, place] : out.places_) place.offset += data;

  out.file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (out.file_ < 0) return out.failed("cannot be made");
  // A file system that cannot reserve room says so when it is written to.
  const int error = posix_fallocate(out.file_, 0, data + end);
  if (error != 0 && error != EOPNOTSUPP && error != EINVAL) {
    errno = error;
    return out.failed("no room");
  }
  HEARTH_TRY(out.write_at(0, text.data(), data));
  return out;
}

Status SafetensorsWriter::write_at(int64_t offset, const char* data, int64_t bytes) const {
  while (bytes > 0) {
    const ssize_t written = pwrite(file_, data, static_cast<size_t>(bytes), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot be written");
    data += written, offset += written, bytes -= written;
  }
  return {};
}

Status SafetensorsWriter::write(std::string_view name, const void* data) {
  const auto at = places_.find(name);
  HEARTH_CHECK(at != places_.end() && !at->second.written);
  at->second.written = true;
  return write_at(at->second.offset, static_cast<const char*>(data), at->second.bytes);
}

Status SafetensorsWriter::finish() {
  HEARTH_CHECK(std::ranges::all_of(places_, [](const auto& place) { return place.second.written; }));
  if (fsync(file_) != 0) return failed("cannot be written");
  if (close(std::exchange(file_, -1)) != 0) return failed("cannot be written");
  return {};
}

}  // namespace hearth
