// Methods and attributes of strings, lists, dictionaries and loops.
#include <algorithm>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

// Characters [start, end) of a string, as str.find and its kin take them; nullopt where start lies behind the string.
struct Window {
  int64_t start;
  std::string_view text;
};
std::optional<Window> window(const MarkedString& text, const Bound& args, size_t first) {
  const int64_t count = length(text.text());
  const auto place = [&](size_t i, int64_t otherwise) {
    if (args[i] == nullptr || args[i]->is_none()) return otherwise;
    const int64_t given = args.integer(i, otherwise);
    return given < 0 ? std::max<int64_t>(given + count, 0) : given;
  };
  const int64_t start = place(first, 0), end = std::min(place(first + 1, count), count);
  if (start > count) return std::nullopt;
  const size_t begin = offset_of(text.text(), start);
  const size_t size = start < end ? offset_of(std::string_view(text.text()).substr(begin), end - start) : 0;
  if (start > end) return std::nullopt;
  return Window{start, std::string_view(text.text()).substr(begin, size)};
}

Value affix(Context& context, const MarkedString& text, const Bound& args, bool at_end) {
  const auto part = window(text, args, 1);
  const auto one = [&](const Value& value) {
    if (value.string() == nullptr) context.fail("startswith and endswith take strings, not a ", value.type_name());
    if (value.string() == nullptr || !part) return false;
    return at_end ? part->text.ends_with(value.string()->text()) : part->text.starts_with(value.string()->text());
  };
  return args[0]->is_tuple() ? std::ranges::any_of(*args[0]->list(), one) : one(*args[0]);
}

Value find(Context& context, const MarkedString& text, const Bound& args, bool from_right, bool must) {
  const std::string& wanted = args.needed_text(0).text();
  const auto part = window(text, args, 1);
  const size_t hit = !part        ? std::string::npos
                     : from_right ? rfind_bytes(context, part->text, wanted)
                                  : find_bytes(part->text, wanted, 0);
  if (hit == std::string::npos) return must ? context.fail("substring not found") : Value(int64_t{-1});
  return part->start + length(part->text.substr(0, hit));
}

Value count(const MarkedString& text, const Bound& args) {
  const std::string& wanted = args.needed_text(0).text();
  const auto part = window(text, args, 1);
  if (!part) return int64_t{0};
  if (wanted.empty()) return length(part->text) + 1;
  int64_t found = 0;
  for (size_t at = 0; (at = find_bytes(part->text, wanted, at)) != std::string::npos; at += wanted.size()) ++found;
  return found;
}

Value partition(Context& context, const MarkedString& text, const Bound& args, bool from_right) {
  const MarkedString& mark = args.needed_text(0);
  if (mark.size() == 0) return context.fail("empty separator");
  const size_t hit =
      from_right ? rfind_bytes(context, text.text(), mark.text()) : find_bytes(text.text(), mark.text(), 0);
  if (!context.charge_bytes(4 * Context::kStringBytes + text.size())) return {};
  List parts;
  if (hit == std::string::npos) {
    parts = {text, MarkedString(), MarkedString()};
    if (from_right) std::ranges::reverse(parts);
  } else {
    const size_t after = hit + mark.size();
    parts = {text.substr(0, hit), mark, text.substr(after, text.size() - after)};
  }
  return Value(std::move(parts), ListKind::kTuple);
}

MarkedString zero_fill(Context& context, const MarkedString& text, int64_t width) {
  const bool sign = text.text().starts_with('-') || text.text().starts_with('+');
  TextBuilder out(context);
  out.append(text.substr(0, sign));
  for (int64_t i = length(text.text()); i < width && context.charge(1); ++i) out.append("0");
  out.append(text.substr(sign, text.size() - sign));
  return out.take();
}

Value join_strings(Context& context, const MarkedString& separator, const Bound& args) {
  const auto items = iterate(context, *args[0]);
  if (!std::ranges::all_of(*items, [](const Value& item) { return item.string() != nullptr; })) {
    return context.fail("join takes strings");
  }
  return join(context, *items, separator);
}

template <Property... kProperties>
Value all_have(Context&, const MarkedString& text, const Bound&) {
  return all_characters(text, [](char32_t c) { return (has_property(c, kProperties) || ...); });
}
bool is_alphabetic(char32_t c) { return is_letter(category(c)); }

struct StringMethod {
  std::string_view parameters;
  Value (*call)(Context&, const MarkedString&, const Bound&);
};
const std::unordered_map<std::string_view, StringMethod>& string_methods() {
  using C = Context&;
  using S = const MarkedString&;
  using A = const Bound&;
  constexpr const char *kFind = "/sub /start? /end?", *kAffix = "/prefix /start? /end?", *kPad = "/width /fillchar?";
  static const MarkedString space(" ");
  static const auto padded = [](Context& c, const MarkedString& s, const Bound& a, Sides where) {
    return Value(pad(c, s, a.integer(0, 0), where, a[1] == nullptr ? space : a.needed_text(1)));
  };
  static const std::unordered_map<std::string_view, StringMethod> table = {
      {"capitalize", {"", [](C c, S s, A) { return Value(capitalize(c, s)); }}},
      {"center", {kPad, [](C c, S s, A a) { return padded(c, s, a, kBoth); }}},
      {"count", {kFind, [](C, S s, A a) { return count(s, a); }}},
      {"endswith", {kAffix, [](C c, S s, A a) { return affix(c, s, a, true); }}},
      {"find", {kFind, [](C c, S s, A a) { return find(c, s, a, false, false); }}},
      {"format", {"* **", [](C c, S s, A a) { return Value(format_fields(c, s, a.rest())); }}},
      {"index", {kFind, [](C c, S s, A a) { return find(c, s, a, false, true); }}},
      {"isalnum",
       {"",
        [](C, S s, A) {
          return Value(
              all_characters(s, [](char32_t c) { return is_alphabetic(c) || has_property(c, Property::kNumeric); }));
        }}},
      {"isalpha", {"", [](C, S s, A) { return Value(all_characters(s, is_alphabetic)); }}},
      {"isascii",
       {"", [](C, S s, A) { return Value(std::ranges::all_of(s.text(), [](unsigned char c) { return c < 0x80; })); }}},
      {"isdecimal", {"", all_have<Property::kDecimal>}},
      {"isdigit", {"", all_have<Property::kDigit>}},
      {"islower", {"", [](C, S s, A) { return Value(is_cased(s, Property::kLower, Property::kUpper)); }}},
      {"isnumeric", {"", all_have<Property::kNumeric>}},
      {"isspace", {"", [](C, S s, A) { return Value(all_characters(s, is_python_space)); }}},
      {"isupper", {"", [](C, S s, A) { return Value(is_cased(s, Property::kUpper, Property::kLower)); }}},
      {"join", {"/iterable", join_strings}},
      {"ljust", {kPad, [](C c, S s, A a) { return padded(c, s, a, kRight); }}},
      {"lower", {"", [](C c, S s, A) { return Value(lower(c, s)); }}},
      {"lstrip", {"/chars?", [](C c, S s, A a) { return strip(c, s, a.text(0), kLeft); }}},
      {"partition", {"/sep", [](C c, S s, A a) { return partition(c, s, a, false); }}},
      {"removeprefix",
       {"/prefix",
        [](C c, S s, A a) {
          const size_t drop = s.text().starts_with(a.needed_text(0).text()) ? a.needed_text(0).size() : 0;
          return c.charge_bytes(s.size()) ? Value(s.substr(drop, s.size() - drop)) : Value();
        }}},
      {"removesuffix",
       {"/suffix",
        [](C c, S s, A a) {
          const size_t drop = s.text().ends_with(a.needed_text(0).text()) ? a.needed_text(0).size() : 0;
          return c.charge_bytes(s.size()) ? Value(s.substr(0, s.size() - drop)) : Value();
        }}},
      {"replace",
       {"/old /new /count?",
        [](C c, S s, A a) { return Value(replace(c, s, a.needed_text(0), a.needed_text(1), a.integer(2, -1))); }}},
      {"rfind", {kFind, [](C c, S s, A a) { return find(c, s, a, true, false); }}},
      {"rindex", {kFind, [](C c, S s, A a) { return find(c, s, a, true, true); }}},
      {"rjust", {kPad, [](C c, S s, A a) { return padded(c, s, a, kLeft); }}},
      {"rpartition", {"/sep", [](C c, S s, A a) { return partition(c, s, a, true); }}},
      {"rsplit",
       {"sep? maxsplit?", [](C c, S s, A a) { return Value(split(c, s, a.text(0), a.integer(1, -1), true)); }}},
      {"rstrip", {"/chars?", [](C c, S s, A a) { return strip(c, s, a.text(0), kRight); }}},
      {"split",
       {"sep? maxsplit?", [](C c, S s, A a) { return Value(split(c, s, a.text(0), a.integer(1, -1), false)); }}},
      {"splitlines", {"keepends?", [](C c, S s, A a) { return Value(split_lines(c, s, a.flag(0))); }}},
      {"startswith", {kAffix, [](C c, S s, A a) { return affix(c, s, a, false); }}},
      {"strip", {"/chars?", [](C c, S s, A a) { return strip(c, s, a.text(0), kBoth); }}},
      {"swapcase", {"", [](C c, S s, A) { return Value(swap_case(c, s)); }}},
      {"title", {"", [](C c, S s, A) { return Value(title(c, s)); }}},
      {"upper", {"", [](C c, S s, A) { return Value(upper(c, s)); }}},
      {"zfill", {"/width", [](C c, S s, A a) { return Value(zero_fill(c, s, a.integer(0, 0))); }}},
  };
  return table;
}

// A method that keeps the object that it belongs to.
Value method(const Value& object, std::string_view name, std::string_view parameters, auto&& call) {
  const Function function = [name, parameters, call](Context& context, const Arguments& given) -> Value {
    const Bound args(context, name, parameters, given);
    return context.failed() ? Value() : call(context, args);
  };
  return Value(function, object.depth());
}

// Of a list of a dictionary's keys, each with `items` elements beside it.
bool charge_keys(Context& context, const Dict& dict, size_t items) {
  size_t bytes = 0;
  for (const auto& item : dict.items) bytes += items * Context::kItemBytes + Context::kStringBytes + item.first.size();
  return context.charge_bytes(bytes);
}

}  // namespace

List pairs(Context& context, const Dict& dict) {
  List out;
  if (!charge_keys(context, dict, 5)) return out;
  for (const auto& [key, value] : dict.items) out.push_back(Value(List{Value(key), value}, ListKind::kTuple));
  return out;
}
List keys(Context& context, const Dict& dict) {
  List out;
  if (!charge_keys(context, dict, 1)) return out;
  for (const auto& item : dict.items) out.push_back(Value(item.first));
  return out;
}

Value string_method(const Value& object, std::string_view name) {
  const auto found = string_methods().find(name);
  if (found == string_methods().end()) return {};
  return method(object, found->first, found->second.parameters,
                [object, call = found->second.call](Context& context, const Bound& args) {
                  const MarkedString& text = *object.string();
                  return context.charge(1 + text.size() / 64) ? call(context, text, args) : Value();
                });
}

Value dict_method(const Value& object, std::string_view name) {
  if (object.dict()->is_namespace) return {};
  if (name == "items") {
    return method(object, "items", "", [object](Context& context, const Bound&) {
      return Value(pairs(context, *object.dict()), ListKind::kItems);
    });
  }
  if (name == "keys") {
    return method(object, "keys", "", [object](Context& context, const Bound&) {
      return Value(keys(context, *object.dict()), ListKind::kKeys);
    });
  }
  if (name == "values") {
    return method(object, "values", "", [object](Context& context, const Bound&) {
      List out;
      if (!context.charge_items(object.dict()->items.size())) return Value();
      for (const auto& item : object.dict()->items) out.push_back(item.second);
      return Value(std::move(out), ListKind::kValues);
    });
  }
  if (name == "get") {
    return method(object, "get", "/key /default?", [object](Context& context, const Bound& args) {
      const MarkedString* key = args[0]->string();
      context.charge(object.dict()->items.size() / 16);
      const Value* found = key == nullptr ? nullptr : object.dict()->find(key->text());
      return found != nullptr ? *found : args[1] != nullptr ? *args[1] : Value(None{});
    });
  }
  if (name == "copy") {
    return method(object, "copy", "", [object](Context& context, const Bound&) {
      return charge_keys(context, *object.dict(), 2) ? Value(Dict(*object.dict())) : Value();
    });
  }
  return {};
}

Value list_method(const Value& object, std::string_view name) {
  if (object.is_view()) return {};
  if (object.list_kind() == ListKind::kGroup && name == "grouper") return (*object.list())[0];
  if (object.list_kind() == ListKind::kGroup && name == "list") return (*object.list())[1];
  if (name == "index") {
    return method(object, "index", "/value", [object](Context& context, const Bound& args) -> Value {
      const List& list = *object.list();
      for (size_t i = 0; i < list.size() && !context.failed(); ++i) {
        if (equal(context, list[i], *args[0])) return static_cast<int64_t>(i);
      }
      return context.fail("value is not in list");
    });
  }
  if (name == "count") {
    return method(object, "count", "/value", [object](Context& context, const Bound& args) -> Value {
      return static_cast<int64_t>(
          std::ranges::count_if(*object.list(), [&](const Value& v) { return equal(context, v, *args[0]); }));
    });
  }
  if (name == "copy" && object.list_kind() == ListKind::kList) {
    return method(object, "copy", "", [object](Context&, const Bound&) { return object; });  // nobody can change either
  }
  return {};
}

Value loop_attribute(const Value& object, std::string_view name) {
  const Loop& loop = *object.loop();
  const auto count = static_cast<int64_t>(loop.items->size()), index = static_cast<int64_t>(loop.index);
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return count - index;
  if (name == "revindex0") return count - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == count;
  if (name == "length") return count;
  if (name == "depth") return loop.depth;
  if (name == "depth0") return loop.depth - 1;
  if (name == "previtem") return index == 0 ? Value() : (*loop.items)[loop.index - 1];
  if (name == "nextitem") return index + 1 == count ? Value() : (*loop.items)[loop.index + 1];
  if (name == "cycle") {
    return Function([index](Context& context, const Arguments& args) -> Value {
      if (args.positional.empty() || !args.named.empty()) return context.fail("cycle takes values");
      return args.positional[static_cast<size_t>(index) % args.positional.size()];
    });
  }
  if (name == "changed") {
    const Function changed = [object](Context& context, const Arguments& args) -> Value {
      const bool holdable =
          std::ranges::all_of(args.positional, [](const Value& v) { return v.depth() < Value::kMaxDepth; });
      if (!holdable || !args.named.empty()) return context.fail("changed takes values, and no namespace or loop");
      if (!context.charge_items(args.positional.size())) return {};
      auto& last = object.loop()->last_checked;
      const auto same = [&](const Value& a, const Value& b) { return equal(context, a, b); };
      if (last && std::ranges::equal(*last, args.positional, same)) return false;
      last = args.positional;
      return true;
    };
    return Value(changed, object.depth());
  }
  return {};
}

}  // namespace hearth::jinja
