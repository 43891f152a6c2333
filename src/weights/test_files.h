// For tests: a temporary folder, and checkpoint files written to order, wrong ones too.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/cat.h"

namespace hearth::test {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hearth_test.XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return file;
  }

 private:
  std::filesystem::path path_;
};

template <typename T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

inline std::string safetensors(std::string_view header, std::string_view data) {
  return raw(uint64_t{header.size()}).append(header).append(data);
}

struct TestTensor {
  std::string name, dtype;  // as safetensors names it
  std::vector<int64_t> shape;
  std::string data;
};

inline std::string safetensors(const std::vector<TestTensor>& tensors) {
  std::string header, data;
  for (const TestTensor& t : tensors) {
    std::string shape;
    for (const int64_t dim : t.shape) shape += cat(shape.empty() ? "" : ",", dim);
    header += cat(header.empty() ? "{" : ",", "\"", t.name, "\":{\"dtype\":\"", t.dtype, "\",\"shape\":[", shape,
                  "],\"data_offsets\":[", data.size(), ",", data.size() + t.data.size(), "]}");
    data += t.data;
  }
  return safetensors(header + "}", data);
}

inline TestTensor floats(std::string name, std::vector<int64_t> shape, const std::vector<float>& values) {
  std::string data(values.size() * sizeof(float), 0);
  std::memcpy(data.data(), values.data(), data.size());
  return {std::move(name), "F32", std::move(shape), std::move(data)};
}

}  // namespace hearth::test
