// For fuzz targets: one file that each input replaces, gone with the process.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/check.h"

namespace hearth {

class FuzzFile {
 public:
  explicit FuzzFile(const std::string& ending) {
    const char* const folder = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";
    std::string name = std::string(folder) + "/hearth_fuzz.XXXXXX" + ending;
    fd_ = mkstemps(name.data(), static_cast<int>(ending.size()));
    HEARTH_CHECK(fd_ >= 0);
    path_ = name;
  }
  ~FuzzFile() { unlink(path_.c_str()); }
  FuzzFile(const FuzzFile&) = delete;

  const std::filesystem::path& write(const uint8_t* data, size_t size) {
    HEARTH_CHECK(ftruncate(fd_, 0) == 0);
    HEARTH_CHECK(pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
    return path_;
  }

 private:
  int fd_ = -1;
  std::filesystem::path path_;
};

}  // namespace hearth
