// MappedFile: a regular file read through memory, never a pipe or a folder. Links are followed: a folder's files may be
// links that its owner made. A name that a file states is checked by whoever reads it there. If the file shrinks while
// it is mapped, the process ends with one line that says so, not with a bare SIGBUS.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/printable.h"
#include "base/status.h"

namespace hearth {

class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(slot_, other.slot_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~MappedFile();

  std::string_view bytes() const { return {data_, static_cast<size_t>(size_)}; }
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile() = default;
  const char* data_ = nullptr;
  int64_t size_ = 0;
  int slot_ = -1;  // in the table that the SIGBUS handler reads
  std::string path_;
};

// Whether a folder has an entry of this name. A link that leads nowhere is one: what is there is read or refused.
bool is_there(const std::filesystem::path& path);

constexpr int64_t kMaxTextFile = 64 << 20;
// A whole small file (a config) as text; refuses more than `limit` bytes.
Result<std::string> read_text_file(const std::filesystem::path& path, int64_t limit = kMaxTextFile);
// Nullopt where there is no entry of this name.
Result<std::optional<std::string>> read_text_file_if_there(const std::filesystem::path& path,
                                                           int64_t limit = kMaxTextFile);

}  // namespace hearth
