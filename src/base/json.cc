// A SAX handler that builds the document itself, so that depth, count and duplicate keys are refused while reading.
#include "base/json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace hearth {
namespace {

// What a part of a tree takes, the allocator's share and a vector's room to grow included.
constexpr int64_t kValueBytes = 24, kStringBytes = 48, kContainerBytes = 40, kMemberBytes = 160;

void dismantle(Json& tree) noexcept {
  if (auto* const array = tree.get_ptr<Json::array_t*>()) {
    for (Json& value : *array) dismantle(value);
    array->clear();
  } else if (auto* const object = tree.get_ptr<Json::object_t*>()) {
    for (auto& member : *object) dismantle(member.second);
    object->clear();
  }
}

class Builder {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}
  ~Builder() { dismantle(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool v) { return add(v); }
  bool number_integer(int64_t v) { return add(v); }
  bool number_unsigned(uint64_t v) { return add(v); }
  bool number_float(double v, const std::string&) { return std::isfinite(v) ? add(v) : refuse("number out of range"); }
  bool string(std::string& v) { return take_bytes(kStringBytes + std::ssize(v)) && add(std::move(v)); }
  bool binary(Json::binary_t&) { return refuse("binary value"); }

  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) {
    if (open_.empty() && limits_.root_must_be_object) return refuse("the root must be an object");
    return open(Json::array());
  }
  bool key(std::string& v) {
    if (!keys_.back().insert(v).second) return refuse("duplicate key");
    const int64_t bytes = kMemberBytes + 2 * std::ssize(v);
    key_ = std::move(v);
    return take_bytes(bytes);
  }
  bool end_object() {
    keys_.pop_back();
    open_.pop_back();
    return true;
  }
  bool end_array() { return end_object(); }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& e) {
    if (error_.empty()) error_ = e.id == 406 ? "number out of range" : "syntax error";
    position_ = position;
    return false;
  }

  Status status() const {
    return position_ > 0 ? invalid("JSON: ", error_, " at byte ", position_) : invalid("JSON: ", error_);
  }
  Json take() { return std::move(root_); }

 private:
  bool refuse(const char* why) {
    error_ = why;
    return false;
  }
  bool take_bytes(int64_t bytes) {
    if (limits_.bytes_left == nullptr) return true;
    *limits_.bytes_left -= bytes;
    return *limits_.bytes_left >= 0 || refuse("too many values");
  }
  template <typename V>
  bool add(V&& value) {
    return place(Json(std::forward<V>(value))) != nullptr;
  }
  bool open(Json container) {
    if (static_cast<int64_t>(open_.size()) >= limits_.max_depth) return refuse("nested too deep");
    if (!take_bytes(kContainerBytes)) return false;
    Json* placed = place(std::move(container));
    if (placed == nullptr) return false;
    open_.push_back(placed);
    keys_.emplace_back();
    return true;
  }
  // Where the value ended up; a container's address holds while it is open, since only the innermost one grows.
  Json* place(Json value) {
    if (++values_ > limits_.max_values) {
      error_ = "too many values";
      return nullptr;
    }
    if (!take_bytes(kValueBytes)) return nullptr;
    if (open_.empty()) {
      if (!value.is_structured() && limits_.root_must_be_object) {
        error_ = "the root must be an object";
        return nullptr;
      }
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    // ordered_json's operator[] searches linearly; the key is known to be new.
    auto& members = parent.get_ref<Json::object_t&>();
    members.push_back({std::move(key_), std::move(value)});
    return &members.back().second;
  }

  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> open_;
  std::vector<std::set<std::string>> keys_;  // not hashed: whoever sends keys could make them collide
  std::string key_;
  std::string error_;
  size_t position_ = 0;
  int64_t values_ = 0;
};

}  // namespace

void DismantleJson::operator()(Json* tree) const noexcept {
  dismantle(*tree);
  delete tree;
}

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.starts_with("\xEF\xBB\xBF")) return invalid("JSON: byte order mark at byte 1");
  // The parser takes a NUL for the end of its input.
  if (const size_t nul = text.find('\0'); nul != text.npos) return invalid("JSON: syntax error at byte ", nul + 1);
  Builder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return builder.status();
  return builder.take();
}

}  // namespace hearth
