// Filters, by name. One that is not here is an error when a template uses it, never ignored.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/python_text.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

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
    if (!context.charge_items(1)) break;
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
    if (!context.charge_items(1)) break;
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
  return !case_sensitive && key.string() != nullptr ? Value(lower(context, *key.string())) : key;
}
List sort(Context& context, const Value& input, const Args& args) {
  const auto items = iterate(context, input);
  if (context.failed()) return {};
  const bool reverse = flag_argument(args, 0, "reverse");
  if (!context.charge_items(3 * items->size())) return {};
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
    if (!context.charge_items(2)) break;
    if (std::ranges::any_of(keys, [&](const Value& known) { return equal(context, known, key); })) continue;
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
    if (context.failed()) break;
    if (compare(context, value, best) == wanted) best = value;
  }
  return best;
}

MarkedString indent(Context& context, const MarkedString& text, const Args& args) {
  MarkedString fill;
  const Value* width = args.get(0, "width");
  if (width != nullptr && width->string() != nullptr) {
    fill = *width->string();
  } else {
    fill = MarkedString(
        std::string(static_cast<size_t>(std::clamp<int64_t>(integer_argument(args, 0, "width", 4), 0, 1000)), ' '));
  }
  const bool first = flag_argument(args, 1, "first"), blank = flag_argument(args, 2, "blank");
  TextBuilder out(context);
  if (first) out.append(fill);
  const auto& bytes = text.text();
  for (size_t begin = 0; begin <= bytes.size() && context.charge(1);) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    if (begin > 0 && (blank || end > begin)) out.append(fill);
    out.append(text.substr(begin, std::min(end + 1, bytes.size()) - begin));
    begin = end + 1;
  }
  return out.take();
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
    TextBuilder out(context);
    for (size_t at = text->size(); at > 0 && context.charge(1);) {
      const size_t end = std::exchange(at, previous_character(text->text(), at));
      out.append(text->substr(at, end - at));
    }
    return out.take();
  }
  const auto items = iterate(context, value);
  return context.charge_items(items->size()) ? Value(List(items->rbegin(), items->rend())) : Value();
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
      {"capitalize", [](Context& c, const Value& v, const Args&) { return Value(capitalize(c, to_text(c, v))); }},
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
         return Value(sort(c, pairs(c, *v.dict()), Args{{}, {{"attribute", Value::text("0")}}}));
       }},
      {"first",
       [](Context& c, const Value& v, const Args&) {
         const auto items = iterate(c, v);
         return c.failed() || items->empty() ? Value() : items->front();
       }},
      {"float", [](Context&, const Value& v, const Args& a) { return to_real(v, a); }},
      {"indent", [](Context& c, const Value& v, const Args& a) { return Value(indent(c, to_text(c, v), a)); }},
      {"int", [](Context&, const Value& v, const Args& a) { return to_integer(v, a); }},
      {"items",
       [](Context& c, const Value& v, const Args&) {
         if (v.is_undefined()) return Value(List());
         return v.dict() == nullptr ? c.fail("items takes a dictionary") : Value(pairs(c, *v.dict()));
       }},
      {"join",
       [](Context& c, const Value& v, const Args& a) {
         const auto items = iterate(c, v);
         if (c.failed()) return Value();
         const Value* separator = a.get(0, "d");
         const auto* name = string_argument(a, 1, "attribute");
         if (!c.charge_items(items->size())) return Value();
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
         return c.charge_items(items->size()) ? Value(*items) : Value();
       }},
      {"lower", [](Context& c, const Value& v, const Args&) { return Value(lower(c, to_text(c, v))); }},
      {"map", [](Context& c, const Value& v, const Args& a) { return Value(map(c, v, a)); }},
      {"max", [](Context& c, const Value& v, const Args&) { return extreme(c, v, 1); }},
      {"min", [](Context& c, const Value& v, const Args&) { return extreme(c, v, -1); }},
      {"reject", [](Context& c, const Value& v, const Args& a) { return Value(select(c, v, a, false, false)); }},
      {"rejectattr", [](Context& c, const Value& v, const Args& a) { return Value(select(c, v, a, true, false)); }},
      {"replace",
       [](Context& c, const Value& v, const Args& a) {
         const Value *from = a.get(0, "old"), *to = a.get(1, "new");
         if (from == nullptr || to == nullptr) return c.fail("replace takes two strings");
         return Value(
             replace(c, to_text(c, v), to_text(c, *from), to_text(c, *to), integer_argument(a, 2, "count", -1)));
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
         return Value(title(c, to_text(c, v), [](char ch) {
           return !is_python_space(static_cast<unsigned char>(ch)) &&
                  std::string_view("-({[<").find(ch) == std::string_view::npos;
         }));
       }},
      {"tojson", json_filter},
      {"trim", [](Context& c, const Value& v,
                  const Args& a) { return strip(c, to_text(c, v), string_argument(a, 0, "chars"), kBoth); }},
      {"unique", [](Context& c, const Value& v, const Args& a) { return Value(unique(c, v, a)); }},
      {"upper", [](Context& c, const Value& v, const Args&) { return Value(upper(c, to_text(c, v))); }},
  };
  return table;
}

}  // namespace

bool is_filter(std::string_view name) { return filters().contains(name); }

Value apply_filter(Context& context, std::string_view name, const Value& input, const Args& args) {
  if (name == "d") name = "default";
  if (name == "length") name = "count";
  const auto found = filters().find(name);
  if (found == filters().end()) return context.fail("a filter that is not known: ", name);
  context.charge(1 + (input.string() != nullptr ? input.string()->size() / 64 : 0));
  return context.failed() ? Value() : found->second(context, input, args);
}

}  // namespace hearth::jinja
