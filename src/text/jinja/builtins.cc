// Tables of names and small functions. What is missing here is an error when a template uses it, never ignored.
#include "text/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <unordered_map>

#include "base/checked.h"
#include "text/jinja/python_text.h"

namespace hearth::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;
constexpr size_t kMaxString = size_t{64} << 20;

using Args = Arguments;

MarkedString part_of(const MarkedString& whole, std::string_view part) {
  return whole.substr(static_cast<size_t>(part.data() - whole.text().data()), part.size());
}

const MarkedString* string_argument(const Args& args, size_t place, std::string_view name) {
  const Value* value = args.get(place, name);
  return value == nullptr ? nullptr : value->string();
}
int64_t integer_argument(const Args& args, size_t place, std::string_view name, int64_t otherwise) {
  const Value* value = args.get(place, name);
  return value == nullptr ? otherwise : value->as_integer().value_or(otherwise);
}
bool flag_argument(const Args& args, size_t place, std::string_view name, bool otherwise = false) {
  const Value* value = args.get(place, name);
  return value == nullptr ? otherwise : value->truthy();
}

// Offsets where characters begin, and the end.
std::vector<size_t> characters(const std::string& text) {
  std::vector<size_t> out;
  for (size_t at = 0; at < text.size(); at += read_utf8(text, at).length) out.push_back(at);
  out.push_back(text.size());
  return out;
}
int64_t length(const std::string& text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
}

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Case is changed in ASCII alone: templates change roles and types, not prose.
MarkedString recased(MarkedString text, const std::function<char(size_t, char)>& change) {
  text.map_bytes(change);
  return text;
}
MarkedString upper(const MarkedString& text) {
  return recased(text, [](size_t, char c) { return to_upper(c); });
}
MarkedString lower(const MarkedString& text) {
  return recased(text, [](size_t, char c) { return to_lower(c); });
}
MarkedString capitalize(const MarkedString& text) {
  return recased(text, [](size_t i, char c) { return i == 0 ? to_upper(c) : to_lower(c); });
}
// A letter begins a word unless the character before it `continues` one.
MarkedString title(const MarkedString& text, bool (*continues)(char)) {
  bool inside = false;
  return recased(text, [&](size_t, char c) {
    const char out = inside ? to_lower(c) : to_upper(c);
    inside = continues(c);
    return out;
  });
}

enum Sides { kLeft = 1, kRight = 2, kBoth = 3 };
Value strip(const MarkedString& text, const Args& args, int sides) {
  std::string_view part = text.text();
  const MarkedString* set = string_argument(args, 0, "chars");
  if (set == nullptr) {
    if (sides & kLeft) part = trim_begin(part);
    if (sides & kRight) part = trim_end(part);
    return part_of(text, part);
  }
  const auto in_set = [&](std::string_view character) { return set->text().find(character) != std::string::npos; };
  const auto offsets = characters(text.text());
  size_t first = 0, last = offsets.size() - 1;
  const auto character = [&](size_t i) {
    return std::string_view(text.text()).substr(offsets[i], offsets[i + 1] - offsets[i]);
  };
  while ((sides & kLeft) && first < last && in_set(character(first))) ++first;
  while ((sides & kRight) && first < last && in_set(character(last - 1))) --last;
  return text.substr(offsets[first], offsets[last] - offsets[first]);
}

MarkedString replace(const MarkedString& text, const MarkedString& from, const MarkedString& to, int64_t count) {
  if (count < 0) count = std::numeric_limits<int64_t>::max();
  MarkedString out;
  const auto& bytes = text.text();
  size_t at = 0;
  if (from.size() == 0) {  // between all characters
    const auto offsets = characters(bytes);
    for (size_t i = 0; i < offsets.size(); ++i) {
      if (count-- > 0) out.append(to);
      if (i + 1 < offsets.size()) out.append(text.substr(offsets[i], offsets[i + 1] - offsets[i]));
    }
    return out;
  }
  for (size_t hit; count > 0 && (hit = bytes.find(from.text(), at)) != bytes.npos; at = hit + from.size(), --count) {
    out.append(text.substr(at, hit - at));
    out.append(to);
    if (out.size() > kMaxString) return out;  // the caller refuses it
  }
  out.append(text.substr(at, bytes.size() - at));
  return out;
}

List split(Context& context, const MarkedString& text, const Args& args, bool from_right) {
  const MarkedString* separator = string_argument(args, 0, "sep");
  int64_t most = integer_argument(args, 1, "maxsplit", -1);
  if (most < 0) most = std::numeric_limits<int64_t>::max();
  List out;
  std::string_view rest = text.text();
  if (separator == nullptr) {
    rest = from_right ? trim_end(rest) : trim_begin(rest);
    while (!rest.empty() && most-- > 0) {
      const auto offsets_of_space = [&]() -> std::pair<size_t, size_t> {  // the first or last run of white space
        size_t begin = rest.npos, end = 0;
        for (size_t at = 0; at < rest.size();) {
          const CodePoint c = read_utf8(rest, at);
          if (is_python_space(c.value)) {
            if (begin == rest.npos || (from_right && end != at)) begin = at;
            end = at + c.length;
          } else if (begin != rest.npos && !from_right) {
            break;
          }
          at += c.length;
        }
        return {begin, end};
      };
      const auto [begin, end] = offsets_of_space();
      if (!context.charge(1 + rest.size() / (from_right ? 1 : 64))) return out;
      if (begin == rest.npos) break;
      out.push_back(part_of(text, from_right ? rest.substr(end) : rest.substr(0, begin)));
      rest = from_right ? trim_end(rest.substr(0, begin)) : trim_begin(rest.substr(end));
    }
    if (!rest.empty()) out.push_back(part_of(text, rest));
  } else if (separator->size() == 0) {
    context.fail("empty separator");
  } else {
    const std::string& mark = separator->text();
    while (most-- > 0 && context.charge(1)) {
      const size_t hit = from_right ? rest.rfind(mark) : rest.find(mark);
      if (hit == rest.npos) break;
      out.push_back(part_of(text, from_right ? rest.substr(hit + mark.size()) : rest.substr(0, hit)));
      rest = from_right ? rest.substr(0, hit) : rest.substr(hit + mark.size());
    }
    out.push_back(part_of(text, rest));
  }
  if (from_right) std::ranges::reverse(out);
  return out;
}

List split_lines(const MarkedString& text, bool keep_ends) {
  List out;
  const auto& bytes = text.text();
  for (size_t begin = 0; begin < bytes.size();) {
    size_t end = begin, next = begin;
    for (;;) {
      if (end >= bytes.size()) {
        next = end;
        break;
      }
      const CodePoint c = read_utf8(bytes, end);
      const bool is_break = (c.value >= 0x0A && c.value <= 0x0D) || (c.value >= 0x1C && c.value <= 0x1E) ||
                            c.value == 0x85 || c.value == 0x2028 || c.value == 0x2029;
      if (is_break) {
        next = end + c.length + (c.value == '\r' && bytes.substr(end + 1, 1) == "\n");
        break;
      }
      end += c.length;
    }
    out.push_back(text.substr(begin, (keep_ends ? next : end) - begin));
    begin = next;
  }
  return out;
}

bool affix(const MarkedString& text, const Args& args, bool at_end) {
  const auto one = [&](const Value& value) {
    const MarkedString* other = value.string();
    if (other == nullptr) return false;
    return at_end ? text.text().ends_with(other->text()) : text.text().starts_with(other->text());
  };
  if (args.positional.empty()) return false;
  const Value& wanted = args.positional[0];
  return wanted.list() != nullptr ? std::ranges::any_of(*wanted.list(), one) : one(wanted);
}

Value find(Context& context, const MarkedString& text, const Args& args, bool from_right, bool must) {
  const MarkedString* wanted = string_argument(args, 0, "sub");
  if (wanted == nullptr || args.positional.size() > 1) return context.fail("find takes one string");
  const size_t hit = from_right ? text.text().rfind(wanted->text()) : text.text().find(wanted->text());
  if (hit == std::string::npos) return must ? context.fail("substring not found") : Value(int64_t{-1});
  return length(text.text().substr(0, hit));
}

Value all_characters(const MarkedString& text, auto&& belongs) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text.text(), at);
    if (!belongs(c.value)) return false;
    at += c.length;
  }
  return text.size() > 0;
}
// As str.isupper: some letter has this case and none the other.
Value cased(const MarkedString& text, Category wanted, Category other) {
  bool some = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text.text(), at);
    if (category(c.value) == other || category(c.value) == Category::kTitle) return false;
    some |= category(c.value) == wanted;
    at += c.length;
  }
  return some;
}

MarkedString join(Context& context, const List& items, const MarkedString& separator) {
  MarkedString out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    const MarkedString text = to_text(context, items[i]);
    out.append(text);
    if (out.size() > kMaxString) context.fail("string longer than ", kMaxString, " bytes");
    if (!context.charge(1 + (separator.size() + text.size()) / 64)) break;
  }
  return out;
}

Value index_of(Context& context, const List& list, const Args& args) {
  if (args.positional.empty()) return context.fail("index takes a value");
  for (size_t i = 0; i < list.size(); ++i) {
    if (equal(list[i], args.positional[0])) return static_cast<int64_t>(i);
  }
  return context.fail("value is not in list");
}

// Methods, by the type that has them.
using StringMethod = Value (*)(Context&, const MarkedString&, const Args&);
const std::unordered_map<std::string_view, StringMethod>& string_methods() {
  static const std::unordered_map<std::string_view, StringMethod> table = {
      {"strip", [](Context&, const MarkedString& s, const Args& a) { return strip(s, a, kBoth); }},
      {"lstrip", [](Context&, const MarkedString& s, const Args& a) { return strip(s, a, kLeft); }},
      {"rstrip", [](Context&, const MarkedString& s, const Args& a) { return strip(s, a, kRight); }},
      {"upper", [](Context&, const MarkedString& s, const Args&) { return Value(upper(s)); }},
      {"lower", [](Context&, const MarkedString& s, const Args&) { return Value(lower(s)); }},
      {"capitalize", [](Context&, const MarkedString& s, const Args&) { return Value(capitalize(s)); }},
      {"title", [](Context&, const MarkedString& s, const Args&) { return Value(title(s, is_ascii_letter)); }},
      {"split", [](Context& c, const MarkedString& s, const Args& a) { return Value(split(c, s, a, false)); }},
      {"rsplit", [](Context& c, const MarkedString& s, const Args& a) { return Value(split(c, s, a, true)); }},
      {"splitlines", [](Context&, const MarkedString& s,
                        const Args& a) { return Value(split_lines(s, flag_argument(a, 0, "keepends"))); }},
      {"startswith", [](Context&, const MarkedString& s, const Args& a) { return Value(affix(s, a, false)); }},
      {"endswith", [](Context&, const MarkedString& s, const Args& a) { return Value(affix(s, a, true)); }},
      {"find", [](Context& c, const MarkedString& s, const Args& a) { return find(c, s, a, false, false); }},
      {"rfind", [](Context& c, const MarkedString& s, const Args& a) { return find(c, s, a, true, false); }},
      {"index", [](Context& c, const MarkedString& s, const Args& a) { return find(c, s, a, false, true); }},
      {"rindex", [](Context& c, const MarkedString& s, const Args& a) { return find(c, s, a, true, true); }},
      {"replace",
       [](Context& c, const MarkedString& s, const Args& a) {
         const auto *from = string_argument(a, 0, "old"), *to = string_argument(a, 1, "new");
         if (from == nullptr || to == nullptr) return c.fail("replace takes two strings");
         return Value(replace(s, *from, *to, integer_argument(a, 2, "count", -1)));
       }},
      {"removeprefix",
       [](Context&, const MarkedString& s, const Args& a) {
         const auto* prefix = string_argument(a, 0, "prefix");
         const size_t drop = prefix != nullptr && s.text().starts_with(prefix->text()) ? prefix->size() : 0;
         return Value(s.substr(drop, s.size() - drop));
       }},
      {"removesuffix",
       [](Context&, const MarkedString& s, const Args& a) {
         const auto* suffix = string_argument(a, 0, "suffix");
         const size_t drop = suffix != nullptr && s.text().ends_with(suffix->text()) ? suffix->size() : 0;
         return Value(s.substr(0, s.size() - drop));
       }},
      {"count",
       [](Context& c, const MarkedString& s, const Args& a) {
         const auto* wanted = string_argument(a, 0, "sub");
         if (wanted == nullptr || a.positional.size() > 1) return c.fail("count takes one string");
         if (wanted->size() == 0) return Value(length(s.text()) + 1);
         int64_t count = 0;
         for (size_t at = 0; (at = s.text().find(wanted->text(), at)) != std::string::npos; at += wanted->size())
           ++count;
         return Value(count);
       }},
      {"join",
       [](Context& c, const MarkedString& s, const Args& a) {
         if (a.positional.empty()) return c.fail("join takes a list");
         const auto items = iterate(c, a.positional[0]);
         if (!c.failed() && !std::ranges::all_of(*items, [](const Value& item) { return item.string() != nullptr; })) {
           return c.fail("join takes strings");
         }
         return c.failed() ? Value() : Value(join(c, *items, s));
       }},
      {"isspace", [](Context&, const MarkedString& s, const Args&) { return all_characters(s, is_python_space); }},
      {"isdigit", [](Context&, const MarkedString& s,
                     const Args&) { return all_characters(s, [](char32_t c) { return c >= '0' && c <= '9'; }); }},
      {"isalpha", [](Context&, const MarkedString& s,
                     const Args&) { return all_characters(s, [](char32_t c) { return is_letter(category(c)); }); }},
      {"isalnum",
       [](Context&, const MarkedString& s, const Args&) {
         return all_characters(s,
                               [](char32_t c) { return is_letter(category(c)) || category(c) == Category::kNumber; });
       }},
      {"isupper",
       [](Context&, const MarkedString& s, const Args&) { return cased(s, Category::kUpper, Category::kLower); }},
      {"islower",
       [](Context&, const MarkedString& s, const Args&) { return cased(s, Category::kLower, Category::kUpper); }},
  };
  return table;
}

List pairs(const Dict& dict) {
  List out;
  for (const auto& [key, value] : dict.items) out.push_back(List{Value(key), value});
  return out;
}
List keys(const Dict& dict) {
  List out;
  for (const auto& item : dict.items) out.push_back(Value(item.first));
  return out;
}

// The object, held by value, and the method as a function.
Value string_method(const Value& object, std::string_view name) {
  const auto found = string_methods().find(name);
  if (found == string_methods().end()) return {};
  return Function([object, method = found->second](Context& context, const Args& args) {
    context.charge(1 + object.string()->size() / 64);
    Value out = method(context, *object.string(), args);
    if (out.string() != nullptr && out.string()->size() > kMaxString) {
      return context.fail("string longer than ", kMaxString, " bytes");
    }
    if (out.string() != nullptr) context.charge(out.string()->size() / 64);
    return out;
  });
}
Value dict_method(const Value& object, std::string_view name) {
  if (object.dict()->is_namespace) return {};
  if (name == "items") return Function([object](Context&, const Args&) { return Value(pairs(*object.dict())); });
  if (name == "keys") return Function([object](Context&, const Args&) { return Value(keys(*object.dict())); });
  if (name == "values") {
    return Function([object](Context&, const Args&) {
      List out;
      for (const auto& item : object.dict()->items) out.push_back(item.second);
      return Value(out);
    });
  }
  if (name == "get") {
    return Function([object](Context& context, const Args& args) -> Value {
      if (args.positional.empty()) return context.fail("get takes a key");
      const MarkedString* key = args.positional[0].string();
      const Value* found = key == nullptr ? nullptr : object.dict()->find(key->text());
      if (found != nullptr) return *found;
      const Value* otherwise = args.get(1, "default");
      return otherwise != nullptr ? *otherwise : Value(None{});
    });
  }
  return {};
}
Value list_method(const Value& object, std::string_view name) {
  if (name == "index") {
    return Function([object](Context& context, const Args& args) { return index_of(context, *object.list(), args); });
  }
  if (name == "count") {
    return Function([object](Context& context, const Args& args) -> Value {
      if (args.positional.empty()) return context.fail("count takes a value");
      return static_cast<int64_t>(
          std::ranges::count_if(*object.list(), [&](const Value& v) { return equal(v, args.positional[0]); }));
    });
  }
  return {};
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto count = static_cast<int64_t>(loop.items->size()), index = static_cast<int64_t>(loop.index);
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return count - index;
  if (name == "revindex0") return count - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == count;
  if (name == "length") return count;
  if (name == "depth") return int64_t{1};  // of recursion, which there is not
  if (name == "depth0") return int64_t{0};
  if (name == "previtem") return index == 0 ? Value() : (*loop.items)[loop.index - 1];
  if (name == "nextitem") return index + 1 == count ? Value() : (*loop.items)[loop.index + 1];
  if (name == "cycle") {
    return Function([index](Context& context, const Args& args) -> Value {
      if (args.positional.empty()) return context.fail("cycle takes values");
      return args.positional[static_cast<size_t>(index) % args.positional.size()];
    });
  }
  return {};
}

std::optional<int64_t> parse_integer(std::string_view text) {
  text = trim_end(trim_begin(text));
  int64_t value = 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}
std::optional<double> parse_real(std::string_view text) {
  text = trim_end(trim_begin(text));
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "a.b.0", as map(attribute=...) and its like take it.
Value path(Context& context, Value object, std::string_view names) {
  while (!context.failed()) {
    const size_t dot = names.find('.');
    const std::string_view name = names.substr(0, dot);
    const auto index = parse_integer(name);
    object = index ? item(context, object, *index) : item(context, object, Value::text(name));
    if (dot == names.npos) return object;
    names.remove_prefix(dot + 1);
  }
  return {};
}

// select, reject, selectattr, rejectattr: a test's name and arguments follow.
List select(Context& context, const Value& input, const Args& args, bool by_attribute, bool wanted) {
  List out;
  Args rest = args;
  const auto shift = [&]() -> std::string {
    if (rest.positional.empty() || rest.positional[0].string() == nullptr) return {};
    std::string name = rest.positional[0].string()->text();
    rest.positional.erase(rest.positional.begin());
    return name;
  };
  const std::string attribute_name = by_attribute ? shift() : std::string();
  const std::string test = shift();
  if (!input.truthy()) return out;  // none, too, is nothing to select from
  const auto items = iterate(context, input);
  if (context.failed()) return out;
  for (const Value& value : *items) {
    if (!context.charge(1)) break;
    const Value subject = by_attribute ? path(context, value, attribute_name) : value;
    if ((test.empty() ? subject.truthy() : apply_test(context, test, subject, rest)) == wanted) out.push_back(value);
  }
  return out;
}

List map(Context& context, const Value& input, const Args& args) {
  List out;
  if (!input.truthy()) return out;
  const auto items = iterate(context, input);
  if (context.failed()) return out;
  const MarkedString* name = string_argument(args, SIZE_MAX, "attribute");
  const Value* otherwise = args.get(SIZE_MAX, "default");
  Args rest;
  if (name == nullptr) {
    if (args.positional.empty() || args.positional[0].string() == nullptr) {
      context.fail("map takes a filter or an attribute");
      return out;
    }
    rest.positional.assign(args.positional.begin() + 1, args.positional.end());
    rest.named = args.named;
  }
  for (const Value& value : *items) {
    if (!context.charge(1)) break;
    if (name == nullptr) {
      out.push_back(apply_filter(context, args.positional[0].string()->text(), value, rest));
    } else {
      Value found = path(context, value, name->text());
      out.push_back(found.is_undefined() && otherwise != nullptr ? *otherwise : std::move(found));
    }
  }
  return out;
}

// Strings compare without case unless told so.
Value sort_key(Context& context, const Value& value, const MarkedString* attribute_name, bool case_sensitive) {
  Value key = attribute_name != nullptr ? path(context, value, attribute_name->text()) : value;
  return !case_sensitive && key.string() != nullptr ? Value(lower(*key.string())) : key;
}
List sort(Context& context, const Value& input, const Args& args) {
  const auto items = iterate(context, input);
  if (context.failed()) return {};
  const bool reverse = flag_argument(args, 0, "reverse");
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& value : *items) {
    keyed.emplace_back(
        sort_key(context, value, string_argument(args, 2, "attribute"), flag_argument(args, 1, "case_sensitive")),
        value);
  }
  // An order between all pairs of neighbours in kind is checked first: sorting by a broken order is undefined behavior.
  for (size_t i = 1; i < keyed.size() && !context.failed(); ++i) compare(context, keyed[0].first, keyed[i].first);
  const bool nan =
      std::ranges::any_of(keyed, [](const auto& k) { return k.first.real() && std::isnan(*k.first.real()); });
  const bool lists = std::ranges::any_of(keyed, [](const auto& k) { return k.first.list() != nullptr; });
  if (nan || lists) context.fail("sort takes strings or numbers");
  if (!context.charge(keyed.size() * 16)) return {};
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    return reverse ? compare(context, b.first, a.first) < 0 : compare(context, a.first, b.first) < 0;
  });
  List out;
  for (auto& [key, value] : keyed) out.push_back(std::move(value));
  return out;
}
List unique(Context& context, const Value& input, const Args& args) {
  const auto items = iterate(context, input);
  List out, keys;
  if (context.failed()) return out;
  for (const Value& value : *items) {
    const Value key =
        sort_key(context, value, string_argument(args, 1, "attribute"), flag_argument(args, 0, "case_sensitive"));
    if (!context.charge(1 + keys.size())) break;
    if (std::ranges::any_of(keys, [&](const Value& known) { return equal(known, key); })) continue;
    keys.push_back(key);
    out.push_back(value);
  }
  return out;
}

Value extreme(Context& context, const Value& input, int wanted) {
  const auto items = iterate(context, input);
  if (context.failed() || items->empty()) return {};
  Value best = (*items)[0];
  for (const Value& value : *items) {
    if (compare(context, value, best) == wanted) best = value;
  }
  return best;
}

MarkedString indent(const MarkedString& text, const Args& args) {
  MarkedString fill;
  const Value* width = args.get(0, "width");
  if (width != nullptr && width->string() != nullptr) {
    fill = *width->string();
  } else {
    fill = MarkedString(
        std::string(static_cast<size_t>(std::clamp<int64_t>(integer_argument(args, 0, "width", 4), 0, 1000)), ' '));
  }
  const bool first = flag_argument(args, 1, "first"), blank = flag_argument(args, 2, "blank");
  MarkedString out;
  if (first) out.append(fill);
  const auto& bytes = text.text();
  for (size_t begin = 0; begin <= bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    if (begin > 0 && (blank || end > begin)) out.append(fill);
    out.append(text.substr(begin, std::min(end + 1, bytes.size()) - begin));
    begin = end + 1;
  }
  return out;
}

Value round(const Value& input, const Args& args) {
  const double scale = std::pow(10.0, static_cast<double>(integer_argument(args, 0, "precision", 0)));
  const MarkedString* method = string_argument(args, 1, "method");
  const double scaled = input.as_real() * scale;
  if (method != nullptr && method->text() == "ceil") return std::ceil(scaled) / scale;
  if (method != nullptr && method->text() == "floor") return std::floor(scaled) / scale;
  return std::nearbyint(scaled) / scale;
}

Value to_integer(const Value& input, const Args& args) {
  const int64_t otherwise = integer_argument(args, 0, "default", 0);
  if (const auto value = input.as_integer()) return *value;
  std::optional<double> real;
  if (input.real() != nullptr) real = *input.real();
  if (input.string() != nullptr) {
    if (const auto value = parse_integer(input.string()->text())) return *value;
    real = parse_real(input.string()->text());
  }
  if (!real || !(std::fabs(*real) < 9e18)) return otherwise;
  return static_cast<int64_t>(*real);
}
Value to_real(const Value& input, const Args& args) {
  if (input.is_number()) return input.as_real();
  if (input.string() != nullptr) {
    if (const auto value = parse_real(input.string()->text())) return *value;
  }
  const Value* otherwise = args.get(0, "default");
  return otherwise == nullptr ? Value(0.0) : *otherwise;
}

Value count_items(Context& context, const Value& value) {
  if (value.string() != nullptr) return length(value.string()->text());
  if (value.dict() != nullptr) return static_cast<int64_t>(value.dict()->items.size());
  if (value.list() != nullptr) return static_cast<int64_t>(value.list()->size());
  if (value.is_undefined()) return int64_t{0};
  return context.fail("a ", value.type_name(), " has no length");
}

Value reversed(Context& context, const Value& value) {
  if (const MarkedString* text = value.string()) {
    const auto offsets = characters(text->text());
    MarkedString out;
    for (size_t i = offsets.size() - 1; i-- > 0;) out.append(text->substr(offsets[i], offsets[i + 1] - offsets[i]));
    return out;
  }
  const auto items = iterate(context, value);
  return context.failed() ? Value() : Value(List(items->rbegin(), items->rend()));
}

Value json_filter(Context& context, const Value& input, const Args& args) {
  JsonStyle style;
  style.ensure_ascii = flag_argument(args, 0, "ensure_ascii");
  style.indent = std::min<int64_t>(integer_argument(args, 1, "indent", -1), 100);
  if (style.indent >= 0) style.item_separator = ",";
  if (const Value* separators = args.get(2, "separators"); separators != nullptr && separators->list() != nullptr) {
    const List& both = *separators->list();
    if (both.size() != 2 || !both[0].string() || !both[1].string()) return context.fail("separators are two strings");
    style.item_separator = both[0].string()->text();
    style.key_separator = both[1].string()->text();
  }
  style.sort_keys = flag_argument(args, 3, "sort_keys");
  return to_json(context, input, style);
}

using Filter = Value (*)(Context&, const Value&, const Args&);
const std::unordered_map<std::string_view, Filter>& filters() {
  // Filters of strings take whatever prints.
  static const std::unordered_map<std::string_view, Filter> table = {
      {"abs",
       [](Context& c, const Value& v, const Args&) {
         if (const auto i = v.as_integer()) return Value(*i == INT64_MIN ? *i : std::abs(*i));
         return v.real() != nullptr ? Value(std::fabs(*v.real())) : c.fail("abs takes a number");
       }},
      {"attr",
       [](Context& c, const Value& v, const Args& a) {
         const auto* name = string_argument(a, 0, "name");
         return name == nullptr ? c.fail("attr takes a name") : attribute(c, v, name->text());
       }},
      {"capitalize", [](Context& c, const Value& v, const Args&) { return Value(capitalize(to_text(c, v))); }},
      {"count", [](Context& c, const Value& v, const Args&) { return count_items(c, v); }},
      {"default",
       [](Context&, const Value& v, const Args& a) {
         if (!(v.is_undefined() || (flag_argument(a, 1, "boolean") && !v.truthy()))) return v;
         const Value* otherwise = a.get(0, "default_value");
         return otherwise == nullptr ? Value(MarkedString()) : *otherwise;
       }},
      {"dictsort",
       [](Context& c, const Value& v, const Args&) {
         if (v.dict() == nullptr) return c.fail("dictsort takes a dictionary");
         return Value(sort(c, pairs(*v.dict()), Args{{}, {{"attribute", Value::text("0")}}}));
       }},
      {"first",
       [](Context& c, const Value& v, const Args&) {
         const auto items = iterate(c, v);
         return c.failed() || items->empty() ? Value() : items->front();
       }},
      {"float", [](Context&, const Value& v, const Args& a) { return to_real(v, a); }},
      {"indent", [](Context& c, const Value& v, const Args& a) { return Value(indent(to_text(c, v), a)); }},
      {"int", [](Context&, const Value& v, const Args& a) { return to_integer(v, a); }},
      {"items",
       [](Context& c, const Value& v, const Args&) {
         if (v.is_undefined()) return Value(List());
         return v.dict() == nullptr ? c.fail("items takes a dictionary") : Value(pairs(*v.dict()));
       }},
      {"join",
       [](Context& c, const Value& v, const Args& a) {
         const auto items = iterate(c, v);
         if (c.failed()) return Value();
         const Value* separator = a.get(0, "d");
         const auto* name = string_argument(a, 1, "attribute");
         List values = *items;
         if (name != nullptr) {
           for (Value& value : values) value = path(c, value, name->text());
         }
         return Value(join(c, values, separator == nullptr ? MarkedString() : to_text(c, *separator)));
       }},
      {"last",
       [](Context& c, const Value& v, const Args&) {
         const auto items = iterate(c, v);
         return c.failed() || items->empty() ? Value() : items->back();
       }},
      {"list",
       [](Context& c, const Value& v, const Args&) {
         const auto items = iterate(c, v);
         return c.failed() ? Value() : Value(*items);
       }},
      {"lower", [](Context& c, const Value& v, const Args&) { return Value(lower(to_text(c, v))); }},
      {"map", [](Context& c, const Value& v, const Args& a) { return Value(map(c, v, a)); }},
      {"max", [](Context& c, const Value& v, const Args&) { return extreme(c, v, 1); }},
      {"min", [](Context& c, const Value& v, const Args&) { return extreme(c, v, -1); }},
      {"reject", [](Context& c, const Value& v, const Args& a) { return Value(select(c, v, a, false, false)); }},
      {"rejectattr", [](Context& c, const Value& v, const Args& a) { return Value(select(c, v, a, true, false)); }},
      {"replace",
       [](Context& c, const Value& v, const Args& a) {
         const Value *from = a.get(0, "old"), *to = a.get(1, "new");
         if (from == nullptr || to == nullptr) return c.fail("replace takes two strings");
         return Value(replace(to_text(c, v), to_text(c, *from), to_text(c, *to), integer_argument(a, 2, "count", -1)));
       }},
      {"reverse", [](Context& c, const Value& v, const Args&) { return reversed(c, v); }},
      {"round", [](Context& c, const Value& v,
                   const Args& a) { return v.is_number() ? round(v, a) : c.fail("round takes a number"); }},
      {"safe", [](Context& c, const Value& v, const Args&) { return Value(to_text(c, v)); }},
      {"select", [](Context& c, const Value& v, const Args& a) { return Value(select(c, v, a, false, true)); }},
      {"selectattr", [](Context& c, const Value& v, const Args& a) { return Value(select(c, v, a, true, true)); }},
      {"sort", [](Context& c, const Value& v, const Args& a) { return Value(sort(c, v, a)); }},
      {"string", [](Context& c, const Value& v, const Args&) { return Value(to_text(c, v)); }},
      {"sum",
       [](Context& c, const Value& v, const Args& a) {
         const auto items = iterate(c, v);
         const auto* name = string_argument(a, 0, "attribute");
         Value total = int64_t{0};
         if (c.failed()) return total;
         for (const Value& value : *items) {
           total = arithmetic(c, "+", total, name == nullptr ? value : path(c, value, name->text()));
         }
         return total;
       }},
      {"title",
       [](Context& c, const Value& v, const Args&) {
         return Value(title(to_text(c, v), [](char ch) {
           return !is_python_space(static_cast<unsigned char>(ch)) &&
                  std::string_view("-({[<").find(ch) == std::string_view::npos;
         }));
       }},
      {"tojson", json_filter},
      {"trim", [](Context& c, const Value& v, const Args& a) { return strip(to_text(c, v), a, kBoth); }},
      {"unique", [](Context& c, const Value& v, const Args& a) { return Value(unique(c, v, a)); }},
      {"upper", [](Context& c, const Value& v, const Args&) { return Value(upper(to_text(c, v))); }},
  };
  return table;
}

using Test = bool (*)(Context&, const Value&, const Value&);
const std::unordered_map<std::string_view, Test>& tests() {
  static const std::unordered_map<std::string_view, Test> table = {
      {"boolean", [](Context&, const Value& v, const Value&) { return v.boolean() != nullptr; }},
      {"callable", [](Context&, const Value& v, const Value&) { return v.function() != nullptr; }},
      {"defined", [](Context&, const Value& v, const Value&) { return !v.is_undefined(); }},
      {"divisibleby",
       [](Context& c, const Value& v, const Value& by) { return arithmetic(c, "%", v, by).as_real() == 0; }},
      {"eq", [](Context&, const Value& v, const Value& other) { return equal(v, other); }},
      {"even",
       [](Context& c, const Value& v, const Value&) { return equal(arithmetic(c, "%", v, int64_t{2}), int64_t{0}); }},
      {"false", [](Context&, const Value& v, const Value&) { return v.boolean() != nullptr && !*v.boolean(); }},
      {"filter",
       [](Context&, const Value& v, const Value&) { return v.string() && filters().contains(v.string()->text()); }},
      {"float", [](Context&, const Value& v, const Value&) { return v.real() != nullptr; }},
      {"ge", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) >= 0; }},
      {"gt", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) > 0; }},
      {"in", [](Context& c, const Value& v, const Value& other) { return contains(c, other, v); }},
      {"integer", [](Context&, const Value& v, const Value&) { return v.integer() != nullptr; }},
      {"iterable",
       [](Context&, const Value& v, const Value&) {
         return v.string() || v.list() || (v.dict() && !v.dict()->is_namespace) || v.is_undefined();
       }},
      {"le", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) <= 0; }},
      {"lower", [](Context& c, const Value& v,
                   const Value&) { return cased(to_text(c, v), Category::kLower, Category::kUpper).truthy(); }},
      {"lt", [](Context& c, const Value& v, const Value& other) { return compare(c, v, other) < 0; }},
      {"mapping", [](Context&, const Value& v, const Value&) { return v.dict() && !v.dict()->is_namespace; }},
      {"ne", [](Context&, const Value& v, const Value& other) { return !equal(v, other); }},
      {"none", [](Context&, const Value& v, const Value&) { return v.is_none(); }},
      {"number", [](Context&, const Value& v, const Value&) { return v.is_number(); }},
      {"odd",
       [](Context& c, const Value& v, const Value&) { return equal(arithmetic(c, "%", v, int64_t{2}), int64_t{1}); }},
      {"sameas",
       [](Context&, const Value& v, const Value& other) {
         return std::string_view(v.type_name()) == other.type_name() && equal(v, other);
       }},
      {"sequence",
       [](Context&, const Value& v, const Value&) {
         return v.string() || v.list() || (v.dict() && !v.dict()->is_namespace) || v.is_undefined();
       }},
      {"string", [](Context&, const Value& v, const Value&) { return v.string() != nullptr; }},
      {"true", [](Context&, const Value& v, const Value&) { return v.boolean() != nullptr && *v.boolean(); }},
      {"undefined", [](Context&, const Value& v, const Value&) { return v.is_undefined(); }},
      {"upper", [](Context& c, const Value& v,
                   const Value&) { return cased(to_text(c, v), Category::kUpper, Category::kLower).truthy(); }},
  };
  return table;
}

Value range(Context& context, const Args& args) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = args.positional.size();
  if (count < 1 || count > 3) return context.fail("range takes one to three numbers");
  for (size_t i = 0; i < count; ++i) {
    const auto value = args.positional[i].as_integer();
    if (!value) return context.fail("range takes integers");
    bounds[count == 1 ? 1 : i] = *value;
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return context.fail("range with a step of zero");
  List out;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (out.size() >= static_cast<size_t>(kMaxRange)) return context.fail("range longer than ", kMaxRange);
    out.push_back(i);
    const auto next = checked_add(i, step);
    if (!next) break;
    i = *next;
  }
  context.charge(out.size());
  return out;
}

Value format_time(Context& context, const Args& args) {
  const MarkedString* format = string_argument(args, 0, "format");
  if (format == nullptr || format->size() > 256) return context.fail("strftime_now takes a short format");
  std::tm local = {};
  localtime_r(&context.now, &local);
  char buffer[1024];
  return Value::text(std::string_view(buffer, std::strftime(buffer, sizeof buffer, format->text().c_str(), &local)));
}

Value make_dict(Context& context, const Args& args, bool is_namespace) {
  Dict out;
  if (!args.positional.empty()) {
    if (args.positional[0].dict() == nullptr) return context.fail("a dictionary is made of another");
    out = *args.positional[0].dict();
  }
  out.is_namespace = is_namespace;
  for (const auto& [name, value] : args.named) out.set(MarkedString(name), value);
  return out;
}

}  // namespace

Value apply_filter(Context& context, std::string_view name, const Value& input, const Args& args) {
  if (name == "d") name = "default";
  if (name == "length") name = "count";
  const auto found = filters().find(name);
  if (found == filters().end()) return context.fail("a filter that is not known: ", name);
  context.charge(1 + (input.string() != nullptr ? input.string()->size() / 64 : 0));
  Value out = context.failed() ? Value() : found->second(context, input, args);
  if (const MarkedString* text = out.string()) {
    context.charge(text->size() / 64);
    if (text->size() > kMaxString) return context.fail("string longer than ", kMaxString, " bytes");
  }
  if (out.list() != nullptr) context.charge(out.list()->size());
  return out;
}

bool apply_test(Context& context, std::string_view name, const Value& input, const Args& args) {
  constexpr std::pair<std::string_view, std::string_view> kOther[] = {
      {"==", "eq"}, {"equalto", "eq"},  {"!=", "ne"}, {">", "gt"}, {"greaterthan", "gt"},
      {"<", "lt"},  {"lessthan", "lt"}, {">=", "ge"}, {"<=", "le"}};
  for (const auto& [other, common] : kOther) {
    if (name == other) name = common;
  }
  const auto found = tests().find(name);
  if (found == tests().end()) {
    context.fail("a test that is not known: ", name);
    return false;
  }
  return found->second(context, input, args.positional.empty() ? Value() : args.positional[0]);
}

Value attribute(Context& context, const Value& object, std::string_view name) {
  if (context.failed()) return {};
  if (object.is_undefined()) return context.fail("an undefined value has no attribute ", name);
  if (object.loop() != nullptr) return loop_attribute(*object.loop(), name);
  if (object.string() != nullptr) return string_method(object, name);
  if (object.list() != nullptr) return list_method(object, name);
  if (object.dict() == nullptr) return {};
  if (Value method = dict_method(object, name); !method.is_undefined()) return method;
  context.charge(object.dict()->items.size() / 16);
  const Value* found = object.dict()->find(name);
  return found == nullptr ? Value() : *found;
}

Value item(Context& context, const Value& object, const Value& key) {
  if (context.failed()) return {};
  if (object.is_undefined()) return context.fail("an undefined value has no items");
  if (const auto index = key.as_integer(); index && (object.list() != nullptr || object.string() != nullptr)) {
    if (object.list() != nullptr) {
      const auto count = static_cast<int64_t>(object.list()->size());
      const int64_t place = *index < 0 ? *index + count : *index;
      return place < 0 || place >= count ? Value() : (*object.list())[static_cast<size_t>(place)];
    }
    const auto offsets = characters(object.string()->text());
    context.charge(offsets.size() / 16);
    const auto count = static_cast<int64_t>(offsets.size()) - 1;
    const int64_t place = *index < 0 ? *index + count : *index;
    if (place < 0 || place >= count) return {};
    const auto at = static_cast<size_t>(place);
    return object.string()->substr(offsets[at], offsets[at + 1] - offsets[at]);
  }
  if (key.string() == nullptr) return {};
  const std::string& name = key.string()->text();
  if (object.dict() != nullptr) {
    context.charge(object.dict()->items.size() / 16);
    if (const Value* found = object.dict()->find(name)) return *found;
    return dict_method(object, name);
  }
  return attribute(context, object, name);
}

Value slice(Context& context, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (context.failed()) return {};
  const bool is_string = object.string() != nullptr;
  if (!is_string && object.list() == nullptr) return context.fail("a ", object.type_name(), " has no slices");
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->is_none() && !bound->as_integer()) return context.fail("a slice takes integers");
  }
  const auto offsets = is_string ? characters(object.string()->text()) : std::vector<size_t>();
  const auto count = static_cast<int64_t>(is_string ? offsets.size() - 1 : object.list()->size());
  const int64_t by = step.as_integer().value_or(1);
  if (by == 0) return context.fail("a slice with a step of zero");
  const auto place = [&](const Value& bound, int64_t otherwise) {
    const auto given = bound.as_integer();
    if (!given) return otherwise;
    const int64_t from_start = *given < 0 ? *given + count : *given;
    return by > 0 ? std::clamp<int64_t>(from_start, 0, count) : std::clamp<int64_t>(from_start, -1, count - 1);
  };
  const int64_t first = place(start, by > 0 ? 0 : count - 1), last = place(stop, by > 0 ? count : -1);
  if (!context.charge(1 + static_cast<size_t>(count) / 16)) return {};
  MarkedString text;
  List items;
  if (is_string && by == 1) {
    if (first >= last) return text;
    const size_t begin = offsets[static_cast<size_t>(first)];
    return object.string()->substr(begin, offsets[static_cast<size_t>(last)] - begin);
  }
  for (int64_t i = first; by > 0 ? i < last : i > last;) {
    const auto at = static_cast<size_t>(i);
    if (is_string) {
      text.append(object.string()->substr(offsets[at], offsets[at + 1] - offsets[at]));
    } else {
      items.push_back((*object.list())[at]);
    }
    const auto next = checked_add(i, by);
    if (!next) break;
    i = *next;
  }
  return is_string ? Value(std::move(text)) : Value(std::move(items));
}

Value arithmetic(Context& context, std::string_view op, const Value& left, const Value& right) {
  if (context.failed()) return {};
  if (op == "~" || (op == "+" && left.string() != nullptr && right.string() != nullptr)) {
    MarkedString text = to_text(context, left);
    text.append(to_text(context, right));
    if (text.size() > kMaxString) return context.fail("string longer than ", kMaxString, " bytes");
    context.charge(text.size() / 64);
    return text;
  }
  if (op == "+" && left.list() != nullptr && right.list() != nullptr) {
    List items = *left.list();
    items.insert(items.end(), right.list()->begin(), right.list()->end());
    context.charge(items.size());
    return items;
  }
  if (op == "*" && (left.string() != nullptr || right.string() != nullptr)) {
    const Value& text = left.string() != nullptr ? left : right;
    const auto times = (left.string() != nullptr ? right : left).as_integer();
    if (!times) return context.fail("a string times a ", right.type_name());
    const auto size = checked_mul(std::max<int64_t>(*times, 0), static_cast<int64_t>(text.string()->size()));
    if (!size || *size > static_cast<int64_t>(kMaxString))
      return context.fail("string longer than ", kMaxString, " bytes");
    MarkedString out;
    for (int64_t i = 0; i<*times&& * size> 0 && context.charge(1); ++i) out.append(*text.string());
    return out;
  }
  if (!left.is_number() || !right.is_number()) {
    return context.fail("a ", left.type_name(), " ", op, " a ", right.type_name());
  }
  const auto a = left.as_integer(), b = right.as_integer();
  const double x = left.as_real(), y = right.as_real();
  if ((op == "/" || op == "//" || op == "%") && y == 0) return context.fail("division by zero");
  if (op == "/") return x / y;
  if (!a || !b) {
    if (op == "+") return x + y;
    if (op == "-") return x - y;
    if (op == "*") return x * y;
    if (op == "//") return std::floor(x / y);
    if (op == "%") return x - std::floor(x / y) * y;
    return std::pow(x, y);
  }
  std::optional<int64_t> result;
  if (op == "+") result = checked_add(*a, *b);
  if (op == "-") {
    int64_t difference;
    if (!__builtin_sub_overflow(*a, *b, &difference)) result = difference;
  }
  if (op == "*") result = checked_mul(*a, *b);
  if ((op == "//" || op == "%") && *b == -1) {
    if (op == "%") return int64_t{0};
    if (*a != INT64_MIN) result = -*a;
  } else if (op == "//" || op == "%") {
    const int64_t rest = (*a % *b + *b) % *b;  // has the divisor's sign, as in Python
    result = op == "%" ? rest : (*a - rest) / *b;
  }
  if (op == "**") {
    if (*b < 0) return std::pow(x, y);
    result = 1;
    for (int64_t i = 0; i < *b && result && context.charge(1); ++i) result = checked_mul(*result, *a);
  }
  return result ? Value(*result) : context.fail("integer overflow");
}

bool contains(Context& context, const Value& container, const Value& value) {
  if (container.string() != nullptr) {
    if (value.string() == nullptr) {
      context.fail("a ", value.type_name(), " in a string");
      return false;
    }
    context.charge(container.string()->size() / 64);
    return container.string()->text().find(value.string()->text()) != std::string::npos;
  }
  if (container.list() != nullptr) {
    context.charge(container.list()->size() / 16);
    return std::ranges::any_of(*container.list(), [&](const Value& item) { return equal(item, value); });
  }
  if (container.dict() != nullptr) return value.string() != nullptr && container.dict()->find(value.string()->text());
  if (!container.is_undefined()) context.fail("a value in a ", container.type_name());
  return false;
}

std::shared_ptr<const List> iterate(Context& context, const Value& value) {
  List out;
  if (value.list() != nullptr) {
    context.charge(value.list()->size());
    out = *value.list();
  } else if (value.dict() != nullptr && !value.dict()->is_namespace) {
    out = keys(*value.dict());
  } else if (const MarkedString* text = value.string()) {
    const auto offsets = characters(text->text());
    if (!context.charge(offsets.size())) return std::make_shared<const List>();
    for (size_t i = 0; i + 1 < offsets.size(); ++i)
      out.push_back(text->substr(offsets[i], offsets[i + 1] - offsets[i]));
  } else if (!value.is_undefined()) {
    context.fail("a ", value.type_name(), " has no items to go through");
  }
  return std::make_shared<const List>(std::move(out));
}

Value global(std::string_view name) {
  if (name == "range") return Function(range);
  if (name == "namespace") return Function([](Context& c, const Args& a) { return make_dict(c, a, true); });
  if (name == "dict") return Function([](Context& c, const Args& a) { return make_dict(c, a, false); });
  if (name == "self") return Dict();  // the template's blocks, of which there are none
  if (name == "strftime_now") return Function(format_time);
  if (name == "raise_exception") {
    return Function([](Context& context, const Args& args) {
      return context.raise(args.positional.empty() ? "" : to_text(context, args.positional[0]).text());
    });
  }
  return {};
}

}  // namespace hearth::jinja
