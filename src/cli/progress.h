// ProgressLine: how far a load is. A bar on a terminal, now and then a line elsewhere; nothing for what takes an
// instant.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace hearth {

class ProgressLine {
 public:
  // Amounts are shown in `unit`s of `scale`.
  explicit ProgressLine(std::string what, std::string unit = "MiB", int64_t scale = 1 << 20);
  ~ProgressLine() { finish(); }
  void update(int64_t done, int64_t total);
  void finish();  // wipes the bar

 private:
  const std::string what_, unit_;
  const int64_t scale_;
  const bool is_terminal_;
  std::chrono::steady_clock::time_point last_;
  bool drawn_ = false;
};

}  // namespace hearth
