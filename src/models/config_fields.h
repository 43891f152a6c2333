// A config's members by name and type: of a JSON object (config.json), and of a GGUF file's metadata under the names of
// its architecture. Errors: "FILE: FIELD: expected ..., found ...".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "weights/checkpoint.h"
#include "weights/gguf.h"

namespace hearth {

constexpr int64_t kMaxDim = 1 << 20;  // hidden sizes, vocabularies: far above real ones, products stay far below 2^63
constexpr int64_t kMaxPositions = 1 << 21;
constexpr int64_t kMaxLayers = 1024, kMaxHeads = 4096, kMaxHeadDim = 1024, kMaxExperts = 1024;

class ConfigFields {
 public:
  ConfigFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // Null where missing; a JSON null counts as missing.
  const Json* find(const char* name) const;
  bool mentions(const char* name) const;
  Result<int64_t> integer(const char* name, int64_t least, int64_t most, std::optional<int64_t> fallback = {}) const;
  Result<double> positive(const char* name, std::optional<double> fallback = {}) const;
  Result<bool> boolean(const char* name, bool fallback) const;
  Result<std::string> string(const char* name, std::optional<std::string> fallback = {}) const;
  // An id or a list of ids below `vocab`.
  Result<std::vector<int32_t>> ids(const char* name, int64_t vocab) const;
  // Lists of `count` strings, or of at most `most` integers of 0 or more; empty where missing.
  Result<std::vector<std::string>> strings(const char* name, int64_t count) const;
  Result<std::vector<int64_t>> integers(const char* name, int64_t most) const;
  // Refuses the field where it is true: what it asks for is not there.
  Status refuse(const char* name) const;
  Status wrong(const char* name, std::string_view expected) const;
  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

class GgufFields {
 public:
  explicit GgufFields(const Checkpoint& checkpoint, std::string_view architecture)
      : checkpoint_(checkpoint), file_(*checkpoint.gguf()), architecture_(architecture) {}

  bool has(std::string_view key) const { return file_.has(name(key)); }
  // From 1 to `most`, or the fallback.
  Result<int64_t> integer(std::string_view key, int64_t most, std::optional<int64_t> fallback = {}) const;
  Result<double> number(std::string_view key, std::optional<double> fallback = {}) const;
  Result<bool> boolean(std::string_view key, bool fallback) const { return file_.boolean(name(key), fallback); }
  Result<std::string_view> string(std::string_view key, std::string_view fallback) const;
  std::string name(std::string_view key) const { return cat(architecture_, ".", key); }
  const GgufFile& file() const { return file_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  const Checkpoint& checkpoint_;
  const GgufFile& file_;
  const std::string architecture_;
};

}  // namespace hearth
