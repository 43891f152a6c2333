// Methods and attributes of strings, lists, dictionaries and loops.
#include <algorithm>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/python_text.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

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
  const size_t hit =
      from_right ? rfind_bytes(context, text.text(), wanted->text()) : find_bytes(text.text(), wanted->text(), 0);
  if (hit == std::string::npos) return must ? context.fail("substring not found") : Value(int64_t{-1});
  return length(std::string_view(text.text()).substr(0, hit));
}

Value index_of(Context& context, const List& list, const Args& args) {
  if (args.positional.empty()) return context.fail("index takes a value");
  for (size_t i = 0; i < list.size(); ++i) {
    if (equal(context, list[i], args.positional[0])) return static_cast<int64_t>(i);
  }
  return context.fail("value is not in list");
}

// Methods, by the type that has them.
using StringMethod = Value (*)(Context&, const MarkedString&, const Args&);
const std::unordered_map<std::string_view, StringMethod>& string_methods() {
  static const std::unordered_map<std::string_view, StringMethod> table = {
      {"strip", [](Context& c, const MarkedString& s,
                   const Args& a) { return strip(c, s, string_argument(a, 0, "chars"), kBoth); }},
      {"lstrip", [](Context& c, const MarkedString& s,
                    const Args& a) { return strip(c, s, string_argument(a, 0, "chars"), kLeft); }},
      {"rstrip", [](Context& c, const MarkedString& s,
                    const Args& a) { return strip(c, s, string_argument(a, 0, "chars"), kRight); }},
      {"upper", [](Context& c, const MarkedString& s, const Args&) { return Value(upper(c, s)); }},
      {"lower", [](Context& c, const MarkedString& s, const Args&) { return Value(lower(c, s)); }},
      {"capitalize", [](Context& c, const MarkedString& s, const Args&) { return Value(capitalize(c, s)); }},
      {"title", [](Context& c, const MarkedString& s, const Args&) { return Value(title(c, s, is_ascii_letter)); }},
      {"split",
       [](Context& c, const MarkedString& s, const Args& a) {
         return Value(split(c, s, string_argument(a, 0, "sep"), integer_argument(a, 1, "maxsplit", -1), false));
       }},
      {"rsplit",
       [](Context& c, const MarkedString& s, const Args& a) {
         return Value(split(c, s, string_argument(a, 0, "sep"), integer_argument(a, 1, "maxsplit", -1), true));
       }},
      {"splitlines", [](Context& c, const MarkedString& s,
                        const Args& a) { return Value(split_lines(c, s, flag_argument(a, 0, "keepends"))); }},
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
         return Value(replace(c, s, *from, *to, integer_argument(a, 2, "count", -1)));
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
         for (size_t at = 0; (at = find_bytes(s.text(), wanted->text(), at)) != std::string::npos; at += wanted->size())
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

}  // namespace

namespace {

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
  for (const auto& [key, value] : dict.items) out.push_back(List{Value(key), value});
  return out;
}
List keys(Context& context, const Dict& dict) {
  List out;
  if (!charge_keys(context, dict, 1)) return out;
  for (const auto& item : dict.items) out.push_back(Value(item.first));
  return out;
}

// The object, held by value, and the method as a function.
Value string_method(const Value& object, std::string_view name) {
  const auto found = string_methods().find(name);
  if (found == string_methods().end()) return {};
  return Function([object, method = found->second](Context& context, const Args& args) {
    context.charge(1 + object.string()->size() / 64);
    return context.failed() ? Value() : method(context, *object.string(), args);
  });
}
Value dict_method(const Value& object, std::string_view name) {
  if (object.dict()->is_namespace) return {};
  if (name == "items")
    return Function([object](Context& context, const Args&) { return Value(pairs(context, *object.dict())); });
  if (name == "keys")
    return Function([object](Context& context, const Args&) { return Value(keys(context, *object.dict())); });
  if (name == "values") {
    return Function([object](Context& context, const Args&) {
      List out;
      if (!context.charge_items(object.dict()->items.size())) return Value();
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
          std::ranges::count_if(*object.list(), [&](const Value& v) { return equal(context, v, args.positional[0]); }));
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

}  // namespace hearth::jinja
