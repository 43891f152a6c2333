// Logging to stderr, one line a message, for people or as JSON for programs. Behind it is spdlog; never log a user's
// text.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "base/cat.h"

namespace hearth {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

void set_log_level(LogLevel level);
void set_log_level(std::string_view name);  // debug, info, warning or error
enum class LogFormat {
  kText,  // the time of day, level and message
  kJson,  // an object: time (UTC, ISO 8601), level, message, and the fields where there are some
};
void set_log_format(LogFormat format);
LogFormat log_format();
// For lines that cost something to make.
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view line);
// A line whose parts have names. As text it is `line`; as JSON, the message and the fields.
struct LogField {
  std::string_view name;
  std::variant<int64_t, bool, std::string_view> value;
};
void log_fields(LogLevel level, std::string_view line, std::string_view message, std::span<const LogField> fields);

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
