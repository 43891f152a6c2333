// spdlog is included here and nowhere else: it is slow to compile.
#include "base/log.h"

#define SPDLOG_HEADER_ONLY
#define FMT_HEADER_ONLY
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <nlohmann/json.hpp>

namespace hearth {
namespace {

constexpr const char* kTextPattern = "%H:%M:%S.%e %^%l%$ %v";
constexpr const char* kJsonPattern = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";

std::atomic<LogFormat> format = LogFormat::kText;

std::string json_of(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void write(spdlog::logger& to, spdlog::level::level_enum level, std::string_view line) {
  to.log(level, spdlog::string_view_t(line.data(), line.size()));
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("hearth", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern(kTextPattern);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum spd(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(spd(level)); }
void set_log_level(std::string_view name) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (name == spdlog::level::to_string_view(spd(level)).data()) set_log_level(level);
  }
}
bool log_enabled(LogLevel level) { return logger().should_log(spd(level)); }
void set_log_format(LogFormat to) {
  format = to;
  if (to == LogFormat::kText) return logger().set_pattern(kTextPattern);
  logger().set_pattern(kJsonPattern, spdlog::pattern_time_type::utc);
}
LogFormat log_format() { return format; }

void log_line(LogLevel level, std::string_view line) { log_fields(level, line, line, {}); }

void log_fields(LogLevel level, std::string_view line, std::string_view message, std::span<const LogField> fields) {
  if (format == LogFormat::kText) return write(logger(), spd(level), line);
  std::string out = cat("\"message\":", json_of(message));
  for (const LogField& field : fields) {
    out += cat(",\"", field.name, "\":");
    if (const auto* number = std::get_if<int64_t>(&field.value)) out += cat(*number);
    if (const auto* flag = std::get_if<bool>(&field.value)) out += *flag ? "true" : "false";
    if (const auto* text = std::get_if<std::string_view>(&field.value)) out += json_of(*text);
  }
  write(logger(), spd(level), out);
}

}  // namespace hearth
