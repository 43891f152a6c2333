// Both ways read a specification (fill, sign, width, precision, type) and write one value by it.
#include "text/jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace hearth::jinja {
namespace {

constexpr int64_t kMaxWidth = 1'000'000, kMaxPrecision = 500;

struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '=' (after the sign); 0: by the type
  char sign = '-';
  bool alternate = false, comma = false;
  int64_t width = 0, precision = -1;
  char type = 0;
};

// Digits at `at`, which moves behind them; -1 where there are none.
int64_t read_number(Context& context, std::string_view text, size_t& at, int64_t most) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), number);
  if (end == text.data() + at || text[at] == '-') return -1;
  at = static_cast<size_t>(end - text.data());
  if (error != std::errc() || number > most) context.fail("a format with a number above ", most);
  return std::min(number, most);
}

// Sign, or "0x" and the like, apart from the digits, so that zeros can go between.
struct Digits {
  std::string prefix, text;
};

std::string with_commas(const std::string& digits) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out = digits;
  for (size_t i = whole; i > 3; i -= 3) out.insert(i - 3, 1, ',');
  return out;
}

Digits number_digits(Context& context, const Value& value, const Spec& spec) {
  char type = spec.type;
  const auto integer = value.as_integer();
  if (type == 'n' || (type == 0 && !integer && spec.precision >= 0)) context.fail("a format that is not supported");
  const bool as_integer = integer && (type == 0 || std::string_view("dbxXoc").find(type) != std::string_view::npos);
  Digits out;
  const bool negative = as_integer ? *integer < 0 : std::signbit(value.as_real());
  if (negative) {
    out.prefix.assign(1, '-');
  } else if (spec.sign != '-') {
    out.prefix.assign(1, spec.sign);
  }
  if (as_integer) {
    const uint64_t size = negative ? 0 - static_cast<uint64_t>(*integer) : static_cast<uint64_t>(*integer);
    const int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    char buffer[80];
    out.text.assign(buffer, std::to_chars(buffer, buffer + sizeof buffer, size, base).ptr);
    if (type == 'X') {
      for (char& c : out.text) c = static_cast<char>(c >= 'a' ? c - 32 : c);
    }
    if (spec.precision > static_cast<int64_t>(out.text.size())) {  // of '%' only
      out.text.insert(0, static_cast<size_t>(spec.precision) - out.text.size(), '0');
    }
    if (spec.alternate && base != 10) out.prefix += {'0', type};
  } else if (type == 0) {
    out.text = to_text(context, Value(std::fabs(value.as_real()))).text();
  } else {
    double real = std::fabs(value.as_real());
    const bool percent = type == '%';
    if (percent) {
      real *= 100;
      type = 'f';
    }
    if (std::string_view("eEfFgG").find(type) == std::string_view::npos) {
      context.fail("a format of another type than a ", value.type_name());
      return out;
    }
    char buffer[1024];
    const char pattern[] = {'%',
                            spec.alternate ? '#' : '.',
                            spec.alternate ? '.' : '*',
                            spec.alternate ? '*' : type,
                            spec.alternate ? type : '\0',
                            '\0'};
    const int written =
        std::snprintf(buffer, sizeof buffer, pattern, spec.precision < 0 ? 6 : static_cast<int>(spec.precision), real);
    out.text.assign(buffer, static_cast<size_t>(written));
    if (percent) out.text += '%';
  }
  if (spec.comma) out.text = with_commas(out.text);
  return out;
}

void write_padded(Context& context, TextBuilder& out, const MarkedString& prefix, const MarkedString& text,
                  const Spec& spec, char align) {
  const int64_t missing = std::max<int64_t>(spec.width - length(prefix.text()) - length(text.text()), 0);
  const int64_t before = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  const int64_t between = align == '=' ? missing : 0;
  const auto fill = [&](int64_t count) {
    for (int64_t i = 0; i < count && context.charge(1); ++i) out.append(spec.fill);
  };
  fill(before);
  out.append(prefix);
  fill(between);
  out.append(text);
  fill(missing - before - between);
}

void write_number(Context& context, TextBuilder& out, const Value& value, const Spec& spec) {
  const Digits digits = number_digits(context, value, spec);
  write_padded(context, out, MarkedString(digits.prefix), MarkedString(digits.text), spec,
               spec.align ? spec.align : '>');
}

void write_string(Context& context, TextBuilder& out, MarkedString text, const Spec& spec, char align) {
  if (spec.precision >= 0) text = text.substr(0, offset_of(text.text(), spec.precision));
  write_padded(context, out, MarkedString(), text, spec, align);
}

MarkedString character(Context& context, int64_t code) {
  std::string out;
  if (code < 0 || code > 0x10FFFF || (code >> 11) == 0x1B) {
    context.fail("a format of a character that there is not");
  } else {
    append_utf8(out, static_cast<char32_t>(code));
  }
  return MarkedString(out);
}

// The text in braces, behind the colon.
Spec read_spec(Context& context, std::string_view text) {
  Spec spec;
  size_t at = 0;
  constexpr std::string_view kAligns = "<>=^";
  const auto is_align = [&](size_t i) { return i < text.size() && kAligns.find(text[i]) != kAligns.npos; };
  if (const size_t first = text.empty() ? 0 : next_character(text, 0); is_align(first)) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[0];
    at = 1;
  }
  const auto accept = [&](char c) { return at < text.size() && text[at] == c && (++at, true); };
  for (const char sign : {'+', '-', ' '}) {
    if (accept(sign)) spec.sign = sign;
  }
  spec.alternate = accept('#');
  if (at < text.size() && text[at] == '0') {
    if (spec.align == 0) {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
    ++at;
  }
  if (at < text.size()) spec.width = std::max<int64_t>(read_number(context, text, at, kMaxWidth), 0);
  spec.comma = accept(',');
  if (accept('.') && (spec.precision = at < text.size() ? read_number(context, text, at, kMaxPrecision) : -1) < 0) {
    context.fail("a format without its precision");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at < text.size()) context.fail("a format that is not supported");
  return spec;
}

void write_field(Context& context, TextBuilder& out, const Value& value, const Spec& spec, bool has_spec) {
  const bool text_type = spec.type == 0 || spec.type == 's';
  if (value.string() != nullptr && text_type) {
    if (spec.align == '=' || spec.comma) context.fail("a format of numbers for a string");
    return write_string(context, out, *value.string(), spec, spec.align ? spec.align : '<');
  }
  if (!has_spec) return out.append(to_text(context, value));
  if (spec.type == 'c' && value.as_integer()) {
    return write_string(context, out, character(context, *value.as_integer()), spec, spec.align ? spec.align : '<');
  }
  if (!value.is_number() || spec.type == 's' || spec.type == 'c') {
    context.fail("a format that a ", value.type_name(), " does not take");
  } else if (value.as_integer() && spec.precision >= 0 &&
             std::string_view("eEfFgG%").find(spec.type) == std::string_view::npos) {
    context.fail("a precision for an integer");
  } else {
    write_number(context, out, value, spec);
  }
}

// What a field names: "0", "name", "" for the next, then ".attribute" and "[item]".
Value look_up(Context& context, std::string_view field, const Arguments& values, int64_t& next) {
  const size_t end = std::min(field.find_first_of(".["), field.size());
  const std::string_view name = field.substr(0, end);
  Value found;
  int64_t place = -1;
  if (name.empty()) {
    if (next < 0) context.fail("a format with and without numbers");
    place = next++;
  } else if (name[0] >= '0' && name[0] <= '9') {
    if (next > 0) context.fail("a format with and without numbers");
    next = -1;
    size_t at = 0;
    place = read_number(context, name, at, kMaxWidth);
    if (at != name.size()) context.fail("a format's field that is not understood");
  }
  if (place >= 0) {
    if (place >= static_cast<int64_t>(values.positional.size())) return context.fail("a format of more values");
    found = values.positional[static_cast<size_t>(place)];
  } else {
    const auto named = std::ranges::find_if(values.named, [&](const auto& value) { return value.first == name; });
    if (named == values.named.end()) return context.fail("a format names a value that is not given");
    found = named->second;
  }
  for (size_t at = end; at < field.size() && !context.failed();) {
    const bool subscript = field[at] == '[';
    const size_t stop = subscript ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
    if (stop == field.npos) return context.fail("a format's field that is not understood");
    const std::string_view part = field.substr(at + 1, stop - at - 1);
    size_t digits_end = 0;
    const int64_t index = subscript && !part.empty() ? read_number(context, part, digits_end, kMaxWidth) : -1;
    found = index >= 0 && digits_end == part.size() ? item(context, found, index)
            : subscript                             ? item(context, found, Value::text(part))
                                                    : attribute(context, found, part);
    at = stop + subscript;
  }
  return found;
}

}  // namespace

MarkedString format_fields(Context& context, const MarkedString& pattern, const Arguments& values) {
  TextBuilder out(context);
  const std::string_view text = pattern.text();
  int64_t next = 0;
  for (size_t at = 0; at < text.size() && context.charge(1);) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    out.append(pattern.substr(at, brace - at));
    if (brace == text.size()) break;
    if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
      out.append(pattern.substr(brace, 1));
      at = brace + 2;
      continue;
    }
    const size_t end = text.find('}', brace);
    if (text[brace] == '}' || end == text.npos) {
      context.fail("a format with a single brace");
      break;
    }
    std::string_view field = text.substr(brace + 1, end - brace - 1);
    at = end + 1;
    if (field.find('{') != field.npos) {
      context.fail("a format with a field in a field");
      break;
    }
    const size_t colon = field.find(':');
    const std::string_view spec = colon == field.npos ? std::string_view() : field.substr(colon + 1);
    field = field.substr(0, colon);
    char conversion = 0;
    if (field.size() >= 2 && field[field.size() - 2] == '!') {
      conversion = field.back();
      field.remove_suffix(2);
    }
    Value value = look_up(context, field, values, next);
    if (conversion == 's') value = Value(to_text(context, value));
    if (conversion == 'r') value = Value(to_repr(context, value));
    if (conversion != 0 && conversion != 's' && conversion != 'r')
      context.fail("a format's conversion other than s or r");
    if (context.failed()) break;
    write_field(context, out, value, read_spec(context, spec), !spec.empty());
  }
  return out.take();
}

MarkedString format_percent(Context& context, const MarkedString& pattern, const Value& values) {
  TextBuilder out(context);
  const std::string_view text = pattern.text();
  const List one = {values};
  const List& list = values.is_tuple() ? *values.list() : one;
  size_t next = 0;
  bool named = false;
  const auto take = [&]() -> Value {
    if (next < list.size()) return list[next++];
    return context.fail("a format of more values");
  };
  for (size_t at = 0; at < text.size() && context.charge(1);) {
    const size_t mark = std::min(text.find('%', at), text.size());
    out.append(pattern.substr(at, mark - at));
    if (mark == text.size()) break;
    at = mark + 1;
    std::optional<Value> by_name;
    if (at < text.size() && text[at] == '(') {
      const size_t end = text.find(')', at);
      if (end == text.npos || values.dict() == nullptr) {
        context.fail("a format that takes a dictionary");
        break;
      }
      const Value* found = values.dict()->find(text.substr(at + 1, end - at - 1));
      if (found == nullptr) {
        context.fail("a format names a value that is not given");
        break;
      }
      by_name = *found;
      named = true;
      at = end + 1;
    }
    Spec spec;
    bool left = false, zero = false;
    for (; at < text.size(); ++at) {
      if (text[at] == '-')
        left = true;
      else if (text[at] == '0')
        zero = true;
      else if (text[at] == '#')
        spec.alternate = true;
      else if (text[at] == '+')
        spec.sign = '+';
      else if (text[at] == ' ')
        spec.sign = spec.sign == '+' ? '+' : ' ';
      else
        break;
    }
    const auto read_size = [&](int64_t most, int64_t otherwise) {
      if (at < text.size() && text[at] == '*') {
        ++at;
        const auto given = take().as_integer();
        if (!given || *given < 0 || *given > most) context.fail("a format with a width that is not supported");
        return given.value_or(0);
      }
      const int64_t read = at < text.size() ? read_number(context, text, at, most) : -1;
      return read < 0 ? otherwise : read;
    };
    spec.width = read_size(kMaxWidth, 0);
    if (at < text.size() && text[at] == '.') {
      ++at;
      spec.precision = read_size(kMaxPrecision, 0);
    }
    if (at >= text.size()) {
      context.fail("a format without its type");
      break;
    }
    spec.type = text[at++];
    if (spec.type == '%') {
      out.append("%");
      continue;
    }
    const Value value = by_name ? *by_name : take();
    if (context.failed()) break;
    const char align = left ? '<' : '>';
    if (spec.type == 's' || spec.type == 'r') {
      write_string(context, out, spec.type == 's' ? to_text(context, value) : to_repr(context, value), spec, align);
      continue;
    }
    if (spec.type == 'c') {
      spec.precision = -1;
      const bool one = value.string() != nullptr && length(value.string()->text()) == 1;
      if (!one && !value.as_integer()) context.fail("a format of one character");
      write_string(context, out, one ? *value.string() : character(context, value.as_integer().value_or(0)), spec,
                   align);
      continue;
    }
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    const bool integer_type = std::string_view("dxXo").find(spec.type) != std::string_view::npos;
    const bool real_type = std::string_view("eEfFgG").find(spec.type) != std::string_view::npos;
    if (!value.is_number() || (!integer_type && !real_type) ||
        (integer_type && !value.as_integer() && spec.type != 'd')) {
      context.fail("a format that a ", value.type_name(), " does not take");
      break;
    }
    Value number = value;
    if (integer_type && !value.as_integer()) {  // %d of a float cuts it
      const double whole = std::trunc(value.as_real());
      if (!(std::fabs(whole) < 9e18)) context.fail("integer overflow");
      number = Value(static_cast<int64_t>(whole));
    }
    if (zero && !left) spec.fill.assign(1, '0');
    spec.align = left ? '<' : zero ? '=' : '>';
    write_number(context, out, number, spec);
  }
  // Whatever has items by key may be there for nothing.
  const bool has_keys = values.dict() || values.is_undefined() || (values.list() && !values.is_view());
  const bool all_taken = named || next == list.size() || (has_keys && !values.is_tuple());
  if (!context.failed() && !all_taken) context.fail("a format of fewer values");
  return out.take();
}

}  // namespace hearth::jinja
