// Status and Result<T>: errors as values. Every function that can refuse an input returns one; the message is one line
// for the user, with neither the user's own bytes nor addresses in it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/cat.h"
#include "base/check.h"

namespace hearth {

enum class Code {
  kOk,
  kInvalidArgument,    // the input is wrong, whatever the state of the system: HTTP 400, exit 1
  kNotFound,           // 404
  kResourceExhausted,  // no room now, later perhaps: 429
  kDeadlineExceeded,   // cannot be served in time: 429
  kTimedOut,           // the time that its caller gave it is up: 408
  kUnavailable,        // loading or draining: 503
  kCancelled,          // the client went away
  kUnimplemented,      // understood, not supported: 400
  kInternal,           // ours or the machine's fault: 500
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  // The request field at fault ("max_tokens"), where there is one.
  const std::string& param() const { return param_; }
  Status&& with_param(std::string_view param) && {
    param_ = param;
    return std::move(*this);
  }
  // When to try again, where waiting helps; 0: not said.
  int64_t retry_after_seconds() const { return retry_after_seconds_; }
  Status&& with_retry_after(int64_t seconds) && {
    retry_after_seconds_ = seconds;
    return std::move(*this);
  }
  // "context: message", for callers that know the file or tensor.
  Status prefixed(std::string_view context) const {
    Status out(code_, cat(context, ": ", message_));
    out.param_ = param_;
    return out;
  }

 private:
  Code code_ = Code::kOk;
  std::string message_;
  std::string param_;
  int64_t retry_after_seconds_ = 0;
};

template <typename... Args>
Status invalid(const Args&... args) {
  return Status(Code::kInvalidArgument, cat(args...));
}
template <typename... Args>
Status unimplemented(const Args&... args) {
  return Status(Code::kUnimplemented, cat(args...));
}
template <typename... Args>
Status internal_error(const Args&... args) {
  return Status(Code::kInternal, cat(args...));
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) { HEARTH_CHECK(!status_.ok()); }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    HEARTH_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    HEARTH_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    HEARTH_CHECK(ok());
    return std::move(*value_);
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace hearth

#define HEARTH_CONCAT_(a, b) a##b
#define HEARTH_CONCAT(a, b) HEARTH_CONCAT_(a, b)

// HEARTH_TRY(do_it());  returns the error of a Status or Result to the caller.
#define HEARTH_TRY(expression)                                                                          \
  do {                                                                                                  \
    if (auto status_of_ = ::hearth::detail::status_of(expression); !status_of_.ok()) return status_of_; \
  } while (false)

// HEARTH_ASSIGN(auto value, make_it());  declares value from a Result, or returns its error.
#define HEARTH_ASSIGN(declaration, expression) \
  HEARTH_ASSIGN_(HEARTH_CONCAT(result_at_, __LINE__), declaration, expression)
#define HEARTH_ASSIGN_(result, declaration, expression) \
  auto result = (expression);                           \
  if (!result.ok()) return result.status();             \
  declaration = std::move(result).value()

namespace hearth::detail {
inline Status status_of(Status status) { return status; }
template <typename T>
Status status_of(const Result<T>& result) {
  return result.status();
}
}  // namespace hearth::detail
