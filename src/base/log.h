// Logging to stderr, one line a message. Behind it is spdlog; never log a user's text.
#pragma once

#include <string_view>

#include "base/cat.h"

namespace hearth {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

void set_log_level(LogLevel level);
void set_log_level(std::string_view name);  // debug, info, warning or error
// For lines that cost something to make.
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view line);

template <typename... Args>
void log_debug(const Args&... args) {
  log_line(LogLevel::kDebug, cat(args...));
}
template <typename... Args>
void log_info(const Args&... args) {
  log_line(LogLevel::kInfo, cat(args...));
}
template <typename... Args>
void log_warning(const Args&... args) {
  log_line(LogLevel::kWarning, cat(args...));
}
template <typename... Args>
void log_error(const Args&... args) {
  log_line(LogLevel::kError, cat(args...));
}

}  // namespace hearth
