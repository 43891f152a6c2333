// Fields: reads typed, bounded fields of a JSON object. The first refusal sticks and names its field, so that a parser
// is a flat list of lines and asks for the status once. A null counts as absent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace hearth {

class Fields {
 public:
  // `path` is put before names in messages: "messages[2]".
  explicit Fields(const Json& object, std::string path = {});

  // The value, or nullptr when absent, null, or something was refused already.
  const Json* get(std::string_view name) const;

  // Each leaves `out` alone when the field is absent.
  void read(std::string_view name, bool& out);
  void read(std::string_view name, std::string& out);
  void read(std::string_view name, int64_t& out, int64_t min, int64_t max);
  void read(std::string_view name, int32_t& out, int32_t min, int32_t max);
  void read(std::string_view name, float& out, double min, double max);

  void refuse(std::string_view name, std::string_view why);
  void fail(Status status);

  std::string full_name(std::string_view name) const;
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }

 private:
  const Json& object_;
  std::string path_;
  Status status_;
};

// A request's body. Its tree is bounded: 128 MiB hold some five million token ids.
Result<OwnedJson> parse_body(std::string_view body);

// A whole number within bounds, also when written as 16.0.
bool to_integer(const Json& value, int64_t min, int64_t max, int64_t& out);

}  // namespace hearth
