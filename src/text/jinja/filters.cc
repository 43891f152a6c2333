// Filters, by name. One that is not here is an error when a template uses it, never ignored.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/python_text.h"
#include "text/jinja/sequences.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

std::optional<double> parse_real(std::string_view text) {
  text = trim_end(trim_begin(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (text[i] == '_' && (i == 0 || !is_digit(i - 1) || !is_digit(i + 1))) return std::nullopt;
    if (text[i] != '_') digits += text[i];
  }
  double value = 0;
  const char* last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, value);
  if (digits.empty() || end != last) return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::strtod(digits.c_str(), nullptr);  // infinite, or nearly 0
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

MarkedString indent(Context& context, const MarkedString& text, const Value* width, bool first, bool blank) {
  MarkedString fill;
  if (width != nullptr && width->string() != nullptr) {
    fill = *width->string();
  } else {
    const auto spaces = width == nullptr ? 4 : width->as_integer().value_or(-1);
    if (spaces > 10'000 || (width != nullptr && !width->as_integer())) context.fail("indent takes a smaller width");
    fill = MarkedString(std::string(static_cast<size_t>(std::clamp<int64_t>(spaces, 0, 10'000)), ' '));
  }
  // As Python does it: all kinds of line ends become "\n".
  TextBuilder ended(context);
  ended.append(text);
  ended.append("\n");
  const List lines = split_lines(context, ended.take(), false);
  TextBuilder out(context);
  if (first) out.append(fill);
  for (size_t i = 0; i < lines.size() && context.charge(1); ++i) {
    const MarkedString& line = *lines[i].string();
    if (i > 0) out.append("\n");
    if (i > 0 && (blank || line.size() > 0)) out.append(fill);
    out.append(line);
  }
  return out.take();
}

Value round(Context& context, const Value& input, const Bound& args) {
  const int64_t precision = args.integer(0, 0);
  const std::string method = args.text(1) == nullptr ? "common" : args.text(1)->text();
  if (!input.is_number()) return context.fail("round takes a number");
  if (precision < -300 || precision > 300) return context.fail("round takes a smaller precision");
  if (method == "common") {
    if (input.as_integer() && precision >= 0) return *input.as_integer();
    if (input.as_integer() || precision < 0) return context.fail("round takes no negative precision");
    // The decimal nearest to the exact value, as Python has it.
    char buffer[700];
    const int size = std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), input.as_real());
    return parse_real(std::string_view(buffer, static_cast<size_t>(size))).value_or(input.as_real());
  }
  if (method != "ceil" && method != "floor") return context.fail("round takes common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = input.as_real() * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

// Python's int(text, base): a sign, a prefix of the base, underscores between digits. Nullopt where it is no integer.
std::optional<int64_t> integer_of(Context& context, std::string_view text, int64_t base) {
  text = trim_end(trim_begin(text));
  if (base != 0 && (base < 2 || base > 36)) context.fail("int takes a base from 2 to 36");
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    const int64_t stated = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (stated != 0 && (base == stated || base == 0)) {
      base = stated;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) base = 10;
  std::string digits(negative, '-');
  for (size_t i = 0; i < text.size(); ++i) {
    const bool between = i > 0 && i + 1 < text.size() && text[i - 1] != '_';
    if (text[i] == '-' || (text[i] == '_' && !between)) return std::nullopt;
    if (text[i] != '_') digits += text[i];
  }
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  if (error == std::errc::result_out_of_range) context.fail("integer overflow");
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

Value to_integer(Context& context, const Value& input, const Bound& args) {
  const Value otherwise = args[0] == nullptr ? Value(int64_t{0}) : *args[0];
  const int64_t base = args.integer(1, 10);
  if (input.is_undefined()) return context.fail("an undefined value is no number");
  if (const auto value = input.as_integer()) return *value;
  std::optional<double> real;
  if (input.real() != nullptr) real = *input.real();
  if (input.string() != nullptr) {
    if (const auto value = integer_of(context, input.string()->text(), base)) return *value;
    real = parse_real(input.string()->text());
  }
  if (!real || !std::isfinite(*real)) return otherwise;
  if (!(std::fabs(*real) < 9e18)) return context.fail("integer overflow");
  return static_cast<int64_t>(*real);
}

Value to_real(Context& context, const Value& input, const Bound& args) {
  if (input.is_undefined()) return context.fail("an undefined value is no number");
  if (input.is_number()) return input.as_real();
  if (input.string() != nullptr) {
    if (const auto value = parse_real(input.string()->text())) return *value;
  }
  return args[0] == nullptr ? Value(0.0) : *args[0];
}

Value count_items(Context& context, const Value& value) {
  if (value.string() != nullptr) return length(value.string()->text());
  if (value.dict() != nullptr && !value.dict()->is_namespace) return static_cast<int64_t>(value.dict()->items.size());
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
  if (!context.charge_items(items->size())) return {};
  List out(items->rbegin(), items->rend());
  return value.generator() != nullptr ? Value(std::move(out)) : Value::generator(std::move(out));
}

Value first(Context& context, const Value& value) {
  if (Generator* generator = value.generator()) {
    return generator->next < generator->items.size() ? generator->items[generator->next++] : Value();
  }
  const auto items = iterate(context, value);
  return items->empty() ? Value() : items->front();
}

Value last(Context& context, const Value& value) {
  if (value.generator() != nullptr) return context.fail("a generator has no last item");
  const auto items = iterate(context, value);
  return items->empty() ? Value() : items->back();
}

Value join_items(Context& context, const Value& input, const Bound& args) {
  const auto items = iterate(context, input);
  const MarkedString separator = args[0] == nullptr ? MarkedString() : to_text(context, *args[0]);
  if (args[1] == nullptr) return join(context, *items, separator);
  List values;
  for (const Value& value : *items) {
    if (!context.charge_items(1)) return {};
    values.push_back(ItemKey{args[1]}.of(context, value));
  }
  return join(context, values, separator);
}

Value sum(Context& context, const Value& input, const Bound& args) {
  Value total = args[1] == nullptr ? Value(int64_t{0}) : *args[1];
  if (total.string() != nullptr) return context.fail("sum takes no strings");
  const auto items = iterate(context, input);
  for (const Value& value : *items) {
    if (!context.charge(1)) break;
    total = arithmetic(context, "+", total, ItemKey{args[0]}.of(context, value));
  }
  return total;
}

Value dictionary_sorted(Context& context, const Value& input, const Bound& args) {
  if (input.dict() == nullptr) return context.fail("dictsort takes a dictionary");
  const std::string by = args.text(1) == nullptr ? "key" : args.text(1)->text();
  if (by != "key" && by != "value") return context.fail("dictsort takes key or value");
  const Value place = int64_t{by == "value"};
  return sorted(context, pairs(context, *input.dict()), &place, args.flag(0), args.flag(2), false);
}

// Words as re's \w+ has them.
Value count_words(const MarkedString& text) {
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size(); at = next_character(text.text(), at)) {
    const char32_t c = read_utf8(text.text(), at).value;
    const bool word = c == '_' || is_letter(category(c)) || has_property(c, Property::kNumeric);
    words += word && !inside;
    inside = word;
  }
  return words;
}

Value truncated(Context& context, const Value& input, const Bound& args) {
  const int64_t most = args.integer(0, 255), leeway = args.integer(3, 5);
  const MarkedString end = args[2] == nullptr ? MarkedString("...") : args.needed_text(2);
  if (most < length(end.text()) || leeway < 0) return context.fail("truncate takes a length of the end's at least");
  const Value count = count_items(context, input);
  if (context.failed() || *count.integer() <= most || *count.integer() - most <= leeway) return input;
  if (input.string() == nullptr) return context.fail("truncate takes a string");
  const MarkedString& text = *input.string();
  size_t cut = offset_of(text.text(), most - length(end.text()));
  if (!args.flag(1)) {
    const size_t space = text.text().substr(0, cut).rfind(' ');
    if (space != std::string::npos) cut = space;
  }
  return join(context, {text.substr(0, cut), end}, MarkedString());
}

Value json_filter(Context& context, const Value& input, const Bound& args) {
  JsonStyle style;
  style.ensure_ascii = args.flag(0);
  if (args[1] != nullptr && !args[1]->is_none()) {
    if (const MarkedString* text = args[1]->string()) {
      style.indent = text->text();
    } else {
      const int64_t spaces = args.integer(1, 0);
      if (spaces > 1000) return context.fail("tojson takes a smaller indent");
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (args[2] != nullptr && !args[2]->is_none()) {
    const List* both = args[2]->list();
    if (both == nullptr || both->size() != 2 || !(*both)[0].string() || !(*both)[1].string()) {
      return context.fail("separators are two strings");
    }
    style.item_separator = (*both)[0].string()->text();
    style.key_separator = (*both)[1].string()->text();
  }
  style.sort_keys = args.flag(3);
  return to_json(context, input, style);
}

// Attributes alone: of a dictionary its methods, never its members.
Value attribute_only(Context& context, const Value& input, const Bound& args) {
  const std::string& name = args.needed_text(0).text();
  if (input.dict() != nullptr && !input.dict()->is_namespace) return dict_method(input, name);
  return attribute(context, input, name);
}

struct Filter {
  std::string_view parameters;  // as Bound takes them
  Value (*apply)(Context&, const Value&, const Bound&);
};
const std::unordered_map<std::string_view, Filter>& filters() {
  using C = Context&;
  using V = const Value&;
  using A = const Bound&;
  constexpr const char* kExtreme = "case_sensitive? attribute?";
  // Filters of strings take whatever prints.
  static const std::unordered_map<std::string_view, Filter> table = {
      {"abs",
       {"",
        [](C c, V v, A) {
          if (const auto i = v.as_integer()) return Value(*i == INT64_MIN ? *i : std::abs(*i));
          return v.real() != nullptr ? Value(std::fabs(*v.real())) : c.fail("abs takes a number");
        }}},
      {"attr", {"name", attribute_only}},
      {"batch",
       {"linecount fill_with?",
        [](C c, V v, A a) { return Value::generator(batch(c, *iterate(c, v), a.integer(0, 1), a[1])); }}},
      {"capitalize", {"", [](C c, V v, A) { return Value(capitalize(c, to_text(c, v))); }}},
      {"center",
       {"width?",
        [](C c, V v, A a) { return Value(pad(c, to_text(c, v), a.integer(0, 80), kBoth, MarkedString(" "))); }}},
      {"count", {"", [](C c, V v, A) { return count_items(c, v); }}},
      {"default",
       {"default_value? boolean?",
        [](C, V v, A a) {
          if (!(v.is_undefined() || (a.flag(1) && !v.truthy()))) return v;
          return a[0] == nullptr ? Value(MarkedString()) : *a[0];
        }}},
      {"dictsort", {"case_sensitive? by? reverse?", dictionary_sorted}},
      {"first", {"", [](C c, V v, A) { return first(c, v); }}},
      {"float", {"default?", to_real}},
      {"format",
       {"* **",
        [](C c, V v, A a) {
          const Arguments& given = a.rest();
          if (!given.positional.empty() && !given.named.empty()) return c.fail("format takes places or names");
          if (given.named.empty()) {
            return Value(format_percent(c, to_text(c, v), Value(List(given.positional), ListKind::kTuple)));
          }
          Dict names;
          for (const auto& [name, value] : given.named) names.set(MarkedString(name), value);
          return Value(format_percent(c, to_text(c, v), Value(std::move(names))));
        }}},
      {"groupby",
       {"attribute default? case_sensitive?",
        [](C c, V v, A a) {
          return Value(grouped(c, *iterate(c, v), {a[0], a[1], a.flag(2)}));
        }}},
      {"indent",
       {"width? first? blank?",
        [](C c, V v, A a) {
          if (v.string() == nullptr) return c.fail("indent takes a string");
          return Value(indent(c, *v.string(), a[0], a.flag(1), a.flag(2)));
        }}},
      {"int", {"default? base?", to_integer}},
      {"items",
       {"",
        [](C c, V v, A) {
          if (v.is_undefined()) return Value::generator({});
          if (v.dict() == nullptr || v.dict()->is_namespace) return c.fail("items takes a dictionary");
          return Value::generator(pairs(c, *v.dict()));
        }}},
      {"join", {"d? attribute?", join_items}},
      {"last", {"", [](C c, V v, A) { return last(c, v); }}},
      {"list",
       {"",
        [](C c, V v, A) {
          const auto items = iterate(c, v);
          return c.charge_items(items->size()) ? Value(*items) : Value();
        }}},
      {"lower", {"", [](C c, V v, A) { return Value(lower(c, to_text(c, v))); }}},
      {"map", {"* **", [](C c, V v, A a) { return Value::generator(map(c, v, a.rest())); }}},
      {"max",
       {kExtreme,
        [](C c, V v, A a) {
          return extreme(c, *iterate(c, v), {a[1], nullptr, a.flag(0)}, 1);
        }}},
      {"min",
       {kExtreme,
        [](C c, V v, A a) {
          return extreme(c, *iterate(c, v), {a[1], nullptr, a.flag(0)}, -1);
        }}},
      {"reject", {"* **", [](C c, V v, A a) { return Value::generator(select(c, v, a.rest(), false, false)); }}},
      {"rejectattr", {"* **", [](C c, V v, A a) { return Value::generator(select(c, v, a.rest(), true, false)); }}},
      {"replace",
       {"old new count?",
        [](C c, V v, A a) {
          const int64_t count = a[2] == nullptr || a[2]->is_none() ? -1 : a.integer(2, -1);
          return Value(replace(c, to_text(c, v), to_text(c, *a[0]), to_text(c, *a[1]), count));
        }}},
      {"reverse", {"", [](C c, V v, A) { return reversed(c, v); }}},
      {"round", {"precision? method?", round}},
      {"safe", {"", [](C c, V v, A) { return Value(to_text(c, v)); }}},
      {"select", {"* **", [](C c, V v, A a) { return Value::generator(select(c, v, a.rest(), false, true)); }}},
      {"selectattr", {"* **", [](C c, V v, A a) { return Value::generator(select(c, v, a.rest(), true, true)); }}},
      {"slice",
       {"slices fill_with?",
        [](C c, V v, A a) { return Value::generator(slices(c, *iterate(c, v), a.integer(0, 1), a[1])); }}},
      {"sort",
       {"reverse? case_sensitive? attribute?",
        [](C c, V v, A a) { return Value(sorted(c, *iterate(c, v), a[2], a.flag(1), a.flag(0), true)); }}},
      {"string", {"", [](C c, V v, A) { return Value(to_text(c, v)); }}},
      {"sum", {"attribute? start?", sum}},
      {"title", {"", [](C c, V v, A) { return Value(title_words(c, to_text(c, v))); }}},
      {"tojson", {"ensure_ascii? indent? separators? sort_keys?", json_filter}},
      {"trim", {"chars?", [](C c, V v, A a) { return strip(c, to_text(c, v), a.text(0), kBoth); }}},
      {"truncate", {"length? killwords? end? leeway?", truncated}},
      {"unique",
       {kExtreme,
        [](C c, V v, A a) {
          return Value::generator(unique(c, *iterate(c, v), {a[1], nullptr, a.flag(0)}));
        }}},
      {"upper", {"", [](C c, V v, A) { return Value(upper(c, to_text(c, v))); }}},
      {"wordcount", {"", [](C c, V v, A) { return count_words(to_text(c, v)); }}},
  };
  return table;
}

}  // namespace

bool is_filter(std::string_view name) { return filters().contains(name); }

Value apply_filter(Context& context, std::string_view name, const Value& input, const Arguments& given) {
  if (name == "d") name = "default";
  if (name == "length") name = "count";
  const auto found = filters().find(name);
  if (found == filters().end()) return context.fail("a filter that is not known: ", name);
  const Bound args(context, name, found->second.parameters, given);
  context.charge(1 + (input.string() != nullptr ? input.string()->size() / 64 : 0));
  return context.failed() ? Value() : found->second.apply(context, input, args);
}

}  // namespace hearth::jinja
