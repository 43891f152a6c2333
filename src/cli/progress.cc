// The bar goes to stderr, as the log does.
#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"

namespace hearth {

using std::chrono::steady_clock;

ProgressLine::ProgressLine(std::string what, std::string unit, int64_t scale)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      scale_(scale),
      is_terminal_(isatty(STDERR_FILENO) != 0 && log_format() == LogFormat::kText),
      last_(steady_clock::now()) {}

void ProgressLine::update(int64_t done, int64_t total) {
  const auto now = steady_clock::now();
  if (total <= 0 || now - last_ < (is_terminal_ ? std::chrono::milliseconds(50) : std::chrono::seconds(5))) return;
  last_ = now;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const auto percent = static_cast<int64_t>(share * 100);
  const std::string amounts = cat(done / scale_, " of ", total / scale_, " ", unit_);
  if (!is_terminal_) return log_info(what_, ": ", percent, "% (", amounts, ")");
  constexpr int kWidth = 30;
  const auto filled = static_cast<size_t>(share * kWidth);
  const std::string bar = std::string(filled, '#') + std::string(kWidth - filled, '.');
  std::fprintf(stderr, "\r\033[K%s [%s] %d%%  %s", what_.c_str(), bar.c_str(), static_cast<int>(percent),
               amounts.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressLine::finish() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

}  // namespace hearth
