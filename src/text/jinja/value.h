// Values of a template: Python's, as far as chat templates use them. Strings remember which bytes came from the
// request.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/rendered_prompt.h"

namespace hearth::jinja {

// A string with a mark on each byte that came from the request; concatenation, slices and case changes keep the marks.
class MarkedString {
 public:
  MarkedString() = default;
  explicit MarkedString(std::string_view text, bool from_request = false)
      : text_(text), marks_(text.size(), static_cast<char>(from_request)) {}

  const std::string& text() const { return text_; }
  size_t size() const { return text_.size(); }
  void append(std::string_view text, bool from_request = false) {
    text_.append(text);
    marks_.append(text.size(), static_cast<char>(from_request));
  }
  void append(const MarkedString& other) {
    text_ += other.text_;
    marks_ += other.marks_;
  }
  MarkedString substr(size_t begin, size_t length) const {
    MarkedString out;
    out.text_ = text_.substr(begin, length);
    out.marks_ = marks_.substr(begin, length);
    return out;
  }
  bool from_request(size_t at) const { return marks_[at] != 0; }
  std::vector<ByteRange> ranges() const;

 private:
  std::string text_, marks_;
};

class Value;
class Context;
struct Arguments;

struct Undefined {};
struct None {};
using List = std::vector<Value>;
struct Dict {
  std::vector<std::pair<MarkedString, Value>> items;
  bool is_namespace = false;
  const Value* find(std::string_view key) const;
  void set(const MarkedString& key, Value value);
};
using Function = std::function<Value(Context&, const Arguments&)>;
struct Loop;
struct Generator;

// Python's types that are lists here; the difference shows where they are printed, compared, added or subscripted.
enum class ListKind : uint8_t { kList, kTuple, kGroup, kRange, kKeys, kValues, kItems };

// Cheap to copy. Lists and dictionaries are never changed once made, but for a namespace's.
class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const MarkedString>,
                               std::shared_ptr<const List>, std::shared_ptr<Dict>, std::shared_ptr<const Function>,
                               std::shared_ptr<const Loop>, std::shared_ptr<Generator>>;
  Value() = default;  // undefined
  Value(None none) : value_(none) {}
  Value(bool value) : value_(value) {}
  Value(int64_t value) : value_(value) {}
  Value(double value) : value_(value) {}
  Value(MarkedString text) : value_(std::make_shared<const MarkedString>(std::move(text))) {}
  Value(List items, ListKind kind = ListKind::kList);
  Value(Dict dict);
  // `depth`: of what the function holds.
  Value(Function function, int depth = 0)
      : value_(std::make_shared<const Function>(std::move(function))), depth_(depth) {}
  Value(std::shared_ptr<const Loop> loop) : value_(std::move(loop)), depth_(kMaxDepth) {}
  // What filters such as map give in place of a list: it is gone through once, and is true even when empty.
  static Value generator(List items);
  Value(const char*) = delete;
  static Value text(std::string_view text) { return Value(MarkedString(text)); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(value_); }
  bool is_none() const { return std::holds_alternative<None>(value_); }
  bool is_number() const { return value_.index() >= 2 && value_.index() <= 4; }  // bool, too, as in Python
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&value_); }
  const double* real() const { return std::get_if<double>(&value_); }
  const MarkedString* string() const { return pointer<const MarkedString>(); }
  const List* list() const { return pointer<const List>(); }
  std::shared_ptr<const List> shared_list() const {
    const auto* held = std::get_if<std::shared_ptr<const List>>(&value_);
    return held == nullptr ? nullptr : *held;
  }
  Dict* dict() const { return pointer<Dict>(); }
  ListKind list_kind() const { return list_kind_; }  // of a list
  bool is_tuple() const { return list() && (list_kind_ == ListKind::kTuple || list_kind_ == ListKind::kGroup); }
  bool is_view() const { return list() && list_kind_ >= ListKind::kKeys; }
  Generator* generator() const { return pointer<Generator>(); }
  const Function* function() const { return pointer<const Function>(); }
  const Loop* loop() const { return pointer<const Loop>(); }
  // Of a number; a bool is 0 or 1.
  double as_real() const;
  std::optional<int64_t> as_integer() const;  // not of a real

  bool truthy() const;
  const char* type_name() const;
  // How deep lists and dictionaries lie in it; the evaluator refuses more than kMaxDepth, so that all recursion over
  // values is bounded. A namespace or a loop counts as kMaxDepth, since it changes: it lies in a list at most, never in
  // another, so that nothing holds itself.
  static constexpr int kMaxDepth = 100;
  int depth() const { return depth_; }

 private:
  template <typename T>
  T* pointer() const {
    const auto* held = std::get_if<std::shared_ptr<T>>(&value_);
    return held == nullptr ? nullptr : held->get();
  }
  Variant value_;
  int depth_ = 0;
  ListKind list_kind_ = ListKind::kList;
};

struct Generator {
  List items;
  size_t next = 0;  // those before it were taken
};

// The loop variable of a for.
struct Loop {
  std::shared_ptr<const List> items;
  size_t index = 0;
  int64_t depth = 1;                              // of a recursive loop within itself
  std::shared_ptr<const Function> recursion;      // loop(items), of a recursive one
  mutable std::optional<List> last_checked = {};  // by loop.changed
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// The state of one rendering that all parts share: the first error, and what is left of the budget.
class Context {
 public:
  Context(int64_t steps, int64_t bytes, std::time_t now) : now(now), steps_(steps), bytes_(bytes), max_bytes_(bytes) {}
  bool failed() const { return !status_.ok(); }
  const Status& status() const { return status_; }
  // Keeps the first error; the value lets an expression end at once.
  template <typename... Args>
  Value fail(const Args&... args) {
    if (status_.ok()) status_ = invalid("chat template: ", args...);
    return {};
  }
  // The template's own words, in one line of bounded length: "..." stands for what came from the request.
  Value raise(const MarkedString& message);
  // False, and failed, once the budget is spent.
  bool charge(size_t steps) {
    if (steps > static_cast<size_t>(INT64_MAX) || (steps_ -= static_cast<int64_t>(steps)) < 0) fail("too many steps");
    return !failed();
  }
  // The same for what strings and lists take, in sum: to be asked before they are made.
  bool charge_bytes(size_t bytes) {
    if (bytes > static_cast<size_t>(max_bytes_) || (bytes_ -= static_cast<int64_t>(bytes)) < 0) {
      fail("strings and lists of more than ", max_bytes_, " bytes in all");
    }
    return charge(bytes / 64);
  }
  bool charge_items(size_t count) { return count <= SIZE_MAX / kItemBytes && charge_bytes(count * kItemBytes); }
  const std::time_t now;
  // Of an element of a list; of a string beside its characters.
  static constexpr size_t kItemBytes = 32, kStringBytes = 112;

 private:
  int64_t steps_, bytes_;
  const int64_t max_bytes_;
  Status status_;
};

// A string being made: it stops growing, and the rendering fails, when the budget is spent.
class TextBuilder {
 public:
  explicit TextBuilder(Context& context) : context_(context) { context.charge_bytes(Context::kStringBytes); }
  void append(std::string_view text, bool from_request = false) {
    if (context_.charge_bytes(text.size())) out_.append(text, from_request);
  }
  void append(const MarkedString& text) {
    if (context_.charge_bytes(text.size())) out_.append(text);
  }
  size_t size() const { return out_.size(); }
  MarkedString take() { return std::move(out_); }

 private:
  Context& context_;
  MarkedString out_;
};

bool equal(Context& context, const Value& a, const Value& b);
// -1, 0, 1; fails where Python has no order.
int compare(Context& context, const Value& a, const Value& b);
// What {{ value }} prints: Python's str().
MarkedString to_text(Context& context, const Value& value);
MarkedString to_repr(Context& context, const Value& value);  // repr()
struct JsonStyle {
  std::optional<std::string> indent;  // of a level; none: all on one line
  std::string item_separator = ", ", key_separator = ": ";
  bool ensure_ascii = false, sort_keys = false;
};
// Python's json.dumps.
MarkedString to_json(Context& context, const Value& value, const JsonStyle& style = {});
// Every string is marked as the request's, but for those under `role` that are a bare word: templates build tokens of
// them.
Value from_json(const Json& json, bool from_request);

}  // namespace hearth::jinja
