// MappedFile: a regular file read through memory, never a pipe, a folder, or a link out of the model's own folder. If
// the file shrinks while it is mapped, the process ends with one line that says so, not with a bare SIGBUS.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace hearth {

class MappedFile {
 public:
  // `confine`: folder that the file must lie in after links are followed; empty where the user named the file himself.
  static Result<MappedFile> open(const std::filesystem::path& path, const std::filesystem::path& confine = {});

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

// The folder that links in `folder` may not leave: itself, or in a Hugging Face cache the whole models--org--name,
// whose snapshots are links into its blobs.
std::filesystem::path confinement_of(const std::filesystem::path& folder);

// A whole small file (a config) as text; refuses more than `limit` bytes.
Result<std::string> read_text_file(const std::filesystem::path& path, const std::filesystem::path& confine,
                                   int64_t limit = 64 << 20);

// A name out of a file, fit for one line of an error message.
std::string printable(std::string_view name);

}  // namespace hearth
