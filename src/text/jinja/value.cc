// Python's rules for truth, equality, order, str(), repr() and json.dumps.
#include "text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth::jinja {
namespace {

// repr() of a float: the shortest digits that read back, an exponent below 1e-4 and from 1e16.
std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto digits = [&](std::chars_format format) {
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  };
  const double size = std::fabs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e16)) return digits(std::chars_format::scientific);
  const std::string text = digits(std::chars_format::fixed);
  return text.find('.') == text.npos ? text + ".0" : text;
}

void append_hex(std::string& out, const char* prefix, uint32_t value, int digits) {
  out += prefix;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[value >> shift & 0xF];
}

// Calls write(escaped text) for each character of the string, in order, with its mark.
void append_escaped(TextBuilder& out, const MarkedString& text, auto&& escape) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text.text(), at);
    std::string escaped;
    if (!escape(c.value, escaped)) escaped = text.text().substr(at, c.length);
    out.append(escaped, text.from_request(at));
    at += c.length;
  }
}

void append_repr(TextBuilder& out, const MarkedString& text) {
  const bool has_single = text.text().find('\'') != std::string::npos;
  const char quote = has_single && text.text().find('"') == std::string::npos ? '"' : '\'';
  out.append(std::string(1, quote));
  append_escaped(out, text, [&](char32_t c, std::string& to) {
    if (c == '\n') return to = "\\n", true;
    if (c == '\r') return to = "\\r", true;
    if (c == '\t') return to = "\\t", true;
    if (c == '\\' || c == static_cast<unsigned char>(quote)) return to = {'\\', static_cast<char>(c)}, true;
    if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD) return append_hex(to, "\\x", c, 2), true;
    // Not printable: separators, and what is neither letter, mark, number, punctuation nor symbol.
    const bool printable = c == ' ' || (category(c) != Category::kOther && !is_space(c));
    if (!printable && c < 0x10000) return append_hex(to, "\\u", c, 4), true;
    if (!printable) return append_hex(to, "\\U", c, 8), true;
    return false;
  });
  out.append(std::string(1, quote));
}

void append_json_string(TextBuilder& out, const MarkedString& text, bool ensure_ascii) {
  out.append("\"");
  append_escaped(out, text, [&](char32_t c, std::string& to) {
    switch (c) {
      case '"': return to = "\\\"", true;
      case '\\': return to = "\\\\", true;
      case '\n': return to = "\\n", true;
      case '\r': return to = "\\r", true;
      case '\t': return to = "\\t", true;
      case '\b': return to = "\\b", true;
      case '\f': return to = "\\f", true;
    }
    if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
      if (c == 0x7F) return false;
      return append_hex(to, "\\u", c, 4), true;
    }
    if (ensure_ascii && c >= 0x10000) {
      append_hex(to, "\\u", 0xD800 + ((c - 0x10000) >> 10), 4);
      append_hex(to, "\\u", 0xDC00 + (c & 0x3FF), 4);
      return true;
    }
    return false;
  });
  out.append("\"");
}

class Writer {
 public:
  explicit Writer(Context& context) : out(context), context_(context) {}

  // As an element of a list or dictionary, strings are quoted.
  void python(const Value& value, int depth) {
    if (!enter(depth)) return;
    if (const auto* text = value.string()) {
      append_repr(out, *text);
    } else if (const auto* list = value.list()) {
      if (value.list_kind() == ListKind::kRange) {
        context_.fail("cannot print a range");
        return;
      }
      const char* view = value.list_kind() == ListKind::kKeys     ? "dict_keys("
                         : value.list_kind() == ListKind::kValues ? "dict_values("
                         : value.list_kind() == ListKind::kItems  ? "dict_items("
                                                                  : "";
      out.append(view);
      out.append(value.is_tuple() ? "(" : "[");
      for (size_t i = 0; i < list->size(); ++i) {
        if (i > 0) out.append(", ");
        python((*list)[i], depth + 1);
      }
      if (value.is_tuple() && list->size() == 1) out.append(",");
      out.append(value.is_tuple() ? ")" : "]");
      if (*view) out.append(")");
    } else if (const auto* dict = value.dict()) {
      out.append("{");
      for (size_t i = 0; i < dict->items.size(); ++i) {
        if (i > 0) out.append(", ");
        append_repr(out, dict->items[i].first);
        out.append(": ");
        python(dict->items[i].second, depth + 1);
      }
      out.append("}");
    } else if (value.is_none()) {
      out.append("None");
    } else if (value.is_undefined()) {
      out.append("Undefined");
    } else if (value.is_number()) {
      number(value, "True", "False");
    } else {
      context_.fail("cannot print a ", value.type_name());
    }
  }

  void json(const Value& value, const JsonStyle& style, int depth) {
    if (!enter(depth)) return;
    const auto new_line = [&](int level) {
      if (!style.indent) return;
      out.append("\n");
      for (int i = 0; i < level; ++i) out.append(*style.indent);
    };
    if (const auto* text = value.string()) {
      append_json_string(out, *text, style.ensure_ascii);
    } else if (const auto* list = value.is_view() || value.list_kind() == ListKind::kRange ? nullptr : value.list()) {
      out.append("[");
      for (size_t i = 0; i < list->size(); ++i) {
        if (i > 0) out.append(style.item_separator);
        new_line(depth + 1);
        json((*list)[i], style, depth + 1);
      }
      if (!list->empty()) new_line(depth);
      out.append("]");
    } else if (const auto* dict = value.dict()) {
      std::vector<const std::pair<MarkedString, Value>*> items;
      for (const auto& item : dict->items) items.push_back(&item);
      if (style.sort_keys) {
        std::ranges::stable_sort(items, {}, [](const auto* item) -> const std::string& { return item->first.text(); });
      }
      out.append("{");
      for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0) out.append(style.item_separator);
        new_line(depth + 1);
        append_json_string(out, items[i]->first, style.ensure_ascii);
        out.append(style.key_separator);
        json(items[i]->second, style, depth + 1);
      }
      if (!items.empty()) new_line(depth);
      out.append("}");
    } else if (value.is_none()) {
      out.append("null");
    } else if (const double* real = value.real(); real != nullptr && !std::isfinite(*real)) {
      out.append(std::isnan(*real) ? "NaN" : *real < 0 ? "-Infinity" : "Infinity");
    } else if (value.is_number()) {
      number(value, "true", "false");
    } else {
      context_.fail("a ", value.type_name(), " cannot be written as JSON");
    }
  }

  void number(const Value& value, const char* yes, const char* no) {
    if (const auto* boolean = value.boolean()) {
      out.append(*boolean ? yes : no);
    } else if (const auto* integer = value.integer()) {
      out.append(cat(*integer));
    } else {
      out.append(real_text(*value.real()));
    }
  }

  TextBuilder out;

 private:
  bool enter(int depth) {
    if (depth > Value::kMaxDepth + 1) context_.fail("a value nested too deep to print");
    return context_.charge(1);
  }
  Context& context_;
};

bool is_role_word(std::string_view text) {
  return !text.empty() && text.size() <= 32 &&
         std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; });
}

}  // namespace

std::vector<ByteRange> MarkedString::ranges() const {
  std::vector<ByteRange> out;
  for (size_t i = 0; i < marks_.size(); ++i) {
    if (marks_[i] == 0) continue;
    if (out.empty() || out.back().end != i) out.push_back({i, i});
    out.back().end = i + 1;
  }
  return out;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = std::ranges::find_if(items, [&](const auto& item) { return item.first.text() == key; });
  return found == items.end() ? nullptr : &found->second;
}

void Dict::set(const MarkedString& key, Value value) {
  for (auto& item : items) {
    if (item.first.text() == key.text()) {
      item.second = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

Value::Value(List items, ListKind kind) : list_kind_(kind) {
  for (const Value& item : items) depth_ = std::max(depth_, item.depth_);
  ++depth_;
  value_ = std::make_shared<const List>(std::move(items));
}

Value Value::generator(List items) {
  Value out;
  for (const Value& item : items) out.depth_ = std::max(out.depth_, item.depth_);
  ++out.depth_;
  out.value_ = std::make_shared<Generator>(Generator{std::move(items)});
  return out;
}

Value::Value(Dict dict) {
  for (const auto& [key, item] : dict.items) depth_ = std::max(depth_, item.depth_);
  depth_ += dict.is_namespace ? kMaxDepth : 1;
  value_ = std::make_shared<Dict>(std::move(dict));
}

double Value::as_real() const {
  if (const auto* value = real()) return *value;
  return static_cast<double>(as_integer().value_or(0));
}

std::optional<int64_t> Value::as_integer() const {
  if (const auto* value = boolean()) return *value ? 1 : 0;
  if (const auto* value = integer()) return *value;
  return std::nullopt;
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return as_real() != 0;
  if (const auto* text = string()) return text->size() > 0;
  if (const auto* items = list()) return !items->empty();
  if (const auto* members = dict()) return members->is_namespace || !members->items.empty();
  return true;
}

const char* Value::type_name() const {
  constexpr const char* kNames[] = {"undefined", "None", "bool",     "int",  "float",    "string",
                                    "list",      "dict", "function", "loop", "generator"};
  constexpr const char* kLists[] = {"list", "tuple", "tuple", "range", "dict_keys", "dict_values", "dict_items"};
  return list() != nullptr ? kLists[static_cast<size_t>(list_kind_)] : kNames[value_.index()];
}

Value Context::raise(const MarkedString& message) {
  constexpr size_t kMost = 1000;
  std::string out;
  for (size_t at = 0; at < message.size() && out.size() < kMost;) {
    const CodePoint c = read_utf8(message.text(), at);
    if (message.from_request(at)) {
      if (!out.ends_with("...")) out += "...";
    } else if (c.value < 0x20 || c.value == 0x7F) {
      out += ' ';
    } else {
      out += message.text().substr(at, c.length);
    }
    at += c.length;
  }
  if (status_.ok()) status_ = invalid(out);
  return {};
}

bool equal(Context& context, const Value& a, const Value& b) {
  if (!context.charge(1)) return false;
  if (a.is_number() && b.is_number()) {
    const auto x = a.as_integer(), y = b.as_integer();
    return x && y ? *x == *y : a.as_real() == b.as_real();
  }
  const auto same = [&](const Value& x, const Value& y) { return equal(context, x, y); };
  if (a.string() && b.string()) {
    context.charge(std::min(a.string()->size(), b.string()->size()) / 64);
    return a.string()->text() == b.string()->text();
  }
  if (a.list() && b.list()) {
    if (a.list() == b.list()) return true;
    const bool one_type = a.is_tuple() ? b.is_tuple() : a.list_kind() == b.list_kind();
    return one_type && std::ranges::equal(*a.list(), *b.list(), same);
  }
  if (a.dict() && b.dict()) {
    if (a.dict() == b.dict()) return true;
    return a.dict()->items.size() == b.dict()->items.size() &&
           std::ranges::all_of(a.dict()->items, [&](const auto& item) {
             if (!context.charge(b.dict()->items.size() / 16)) return false;
             const Value* other = b.dict()->find(item.first.text());
             return other != nullptr && same(item.second, *other);
           });
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(Context& context, const Value& a, const Value& b) {
  if (!context.charge(1)) return 0;
  const auto sign = [](auto x, auto y) { return x < y ? -1 : x > y ? 1 : 0; };
  if (a.is_number() && b.is_number()) {
    const auto x = a.as_integer(), y = b.as_integer();
    return x && y ? sign(*x, *y) : sign(a.as_real(), b.as_real());
  }
  if (a.string() && b.string()) return sign(a.string()->text().compare(b.string()->text()), 0);
  const auto ordered = [](const Value& v) { return v.is_tuple() || v.list_kind() == ListKind::kList; };
  if (a.list() && b.list() && a.is_tuple() == b.is_tuple() && ordered(a) && ordered(b)) {
    for (size_t i = 0; i < a.list()->size() && i < b.list()->size(); ++i) {
      if (context.failed()) return 0;
      if (!equal(context, (*a.list())[i], (*b.list())[i])) return compare(context, (*a.list())[i], (*b.list())[i]);
    }
    return sign(a.list()->size(), b.list()->size());
  }
  context.fail("a ", a.type_name(), " and a ", b.type_name(), " have no order");
  return 0;
}

MarkedString to_text(Context& context, const Value& value) {
  if (const auto* text = value.string()) return context.charge_bytes(text->size()) ? *text : MarkedString();
  if (value.is_undefined()) return {};
  Writer writer(context);
  writer.python(value, 0);
  return writer.out.take();
}

MarkedString to_repr(Context& context, const Value& value) {
  Writer writer(context);
  writer.python(value, 0);
  return writer.out.take();
}

MarkedString to_json(Context& context, const Value& value, const JsonStyle& style) {
  Writer writer(context);
  writer.json(value, style, 0);
  return writer.out.take();
}

Value from_json(const Json& json, bool from_request) {
  switch (json.type()) {
    case Json::value_t::boolean: return json.get<bool>();
    case Json::value_t::number_integer: return json.get<int64_t>();
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return json.get<double>();
      return json.get<int64_t>();
    case Json::value_t::number_float: return json.get<double>();
    case Json::value_t::string: return MarkedString(json.get_ref<const std::string&>(), from_request);
    case Json::value_t::array: {
      List items;
      for (const Json& item : json) items.push_back(from_json(item, from_request));
      return items;
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, member] : json.items()) {
        const bool role = key == "role" && member.is_string() && is_role_word(member.get_ref<const std::string&>());
        dict.items.emplace_back(MarkedString(key, from_request), from_json(member, from_request && !role));
      }
      return dict;
    }
    default: return None{};
  }
}

}  // namespace hearth::jinja
