// JsonWriter: appends JSON to a string, for answers and stream chunks. It never throws, and what it writes is valid
// UTF-8 whatever comes in: broken bytes become U+FFFD, a number that JSON cannot hold becomes -9999 (as OpenAI writes
// the log-probability of an impossible token).
#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "base/cat.h"

namespace hearth {

void append_json_string(std::string& out, std::string_view text);

class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name) {
    value(name);
    out_ += ':';
    comma_ = false;
    return *this;
  }

  JsonWriter& value(std::string_view text) {
    separate();
    append_json_string(out_, text);
    return *this;
  }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool b) { return raw(b ? "true" : "false"); }
  JsonWriter& value(std::integral auto n) {
    separate();
    append(out_, n);
    return *this;
  }
  JsonWriter& value(std::floating_point auto n) {
    separate();
    if (n - n == 0) {
      append(out_, n);
    } else {
      out_ += "-9999.0";
    }
    return *this;
  }
  JsonWriter& null() { return raw("null"); }
  // A value that is JSON already.
  JsonWriter& json(std::string_view text) { return raw(text); }

  template <typename T>
  JsonWriter& field(std::string_view name, const T& v) {
    return key(name).value(v);
  }

 private:
  JsonWriter& raw(std::string_view text) {
    separate();
    out_ += text;
    return *this;
  }
  JsonWriter& open(char c) {
    separate();
    out_ += c;
    comma_ = false;
    return *this;
  }
  JsonWriter& close(char c) {
    out_ += c;
    comma_ = true;
    return *this;
  }
  void separate() {
    if (comma_) out_ += ',';
    comma_ = true;
  }

  std::string& out_;
  bool comma_ = false;
};

}  // namespace hearth
