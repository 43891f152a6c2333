// One function a type; definitions become rules that may refer to each other.
#include "grammar/schema_grammar.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "grammar/number_ranges.h"
#include "grammar/regex_to_ebnf.h"
#include "grammar/string_formats.h"

namespace hearth {
namespace {

constexpr std::string_view kComma = "\", \"";
constexpr std::string_view kColon = "\": \"";
// A character that stands for itself in a JSON string: none that is escaped, no half of a surrogate pair.
#define HEARTH_RAW_CHAR "[\\u0020-\\u0021\\u0023-\\u005b\\u005d-\\ud7ff\\ue000-\\U0010ffff]"
// What is escaped, behind the backslash; no half of a surrogate pair, so that each is one character.
#define HEARTH_ESCAPE "([\"\\\\/bfnrt] | \"u\" ([0-9a-cA-CeEfF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))"
// Runs of characters in one rule: xgrammar knows beforehand what most tokens do in it.
constexpr std::string_view kCharacters = HEARTH_RAW_CHAR "* (\"\\\\\" " HEARTH_ESCAPE " " HEARTH_RAW_CHAR "*)*";
constexpr std::string_view kInteger = "\"0\" | \"-\"? [1-9] [0-9]{0,17}";
constexpr std::string_view kNumber =
    "\"-\"? (\"0\" | [1-9] [0-9]{0,17}) (\".\" [0-9]{1,16})? ([eE] [+\\-]? [0-9] [0-9]?)?";
constexpr int64_t kMostMultiples = 512;

std::string repeat(std::string_view element, int64_t min, std::optional<int64_t> max) {
  if (max && *max == 0) return "\"\"";
  if (!max && min == 0) return cat(element, "*");
  if (!max) return cat(element, "{", min, ",}");
  return cat(element, "{", min, ",", *max, "}");
}

std::optional<int64_t> count_of(const Json& schema, const char* name) {
  if (!schema.contains(name)) return std::nullopt;
  return schema[name].get<int64_t>();
}

std::string dump(const Json& value) { return value.dump(); }

class SchemaWriter {
 public:
  explicit SchemaWriter(EbnfWriter& writer) : w_(writer) {}

  Result<std::string> write(const Json& root) {
    if (root.contains("$defs")) {
      for (const auto& [name, schema] : root["$defs"].items()) definitions_[name] = w_.reserve();
      for (const auto& [name, schema] : root["$defs"].items()) w_.define(definitions_[name], value(schema));
    }
    std::string out = w_.rule(value(root));
    if (!status_.ok()) return status_;
    return out;
  }

  std::string any_string() {
    return shared(string_, [&] { return quoted(kCharacters); });
  }

 private:
  template <typename Make>
  const std::string& shared(std::string& name, const Make& make) {
    if (name.empty()) name = make();
    return name;
  }
  std::string value(const Json& schema) {
    if (schema.contains("$ref")) return definitions_[schema["$ref"].get_ref<const std::string&>().substr(8)];
    if (schema.contains("enum"))
      return choice(schema["enum"], [](const Json& one) { return EbnfWriter::literal(dump(one)); });
    if (schema.contains("anyOf")) return choice(schema["anyOf"], [&](const Json& one) { return value(one); });
    const std::string type = schema.value("type", "");
    if (type == "null") return "\"null\"";
    if (type == "boolean") return "(\"true\" | \"false\")";
    if (type == "integer") return integer(schema);
    if (type == "number") return number(schema);
    if (type == "string") return string(schema);
    if (type == "array") return array(schema);
    if (type == "object") return object(schema);
    return any();
  }

  template <typename Element>
  std::string choice(const Json& options, const Element& element) {
    std::string body;
    for (const Json& one : options) body += cat(body.empty() ? "" : " | ", element(one));
    return w_.rule(body);
  }

  // Any JSON value.
  const std::string& any() {
    if (any_.empty()) {
      any_ = w_.reserve();
      const std::string list = cat("\"[\" (", any_, " (", kComma, " ", any_, ")*)? \"]\"");
      const std::string member = w_.rule(cat(any_string(), " ", kColon, " ", any_));
      const std::string map = cat("\"{\" (", member, " (", kComma, " ", member, ")*)? \"}\"");
      w_.define(any_, cat(any_string(), " | ", number({}), " | \"true\" | \"false\" | \"null\" | ", list, " | ", map));
    }
    return any_;
  }

  std::string integer(const Json& schema) {
    const auto min = count_of(schema, "minimum"), max = count_of(schema, "maximum");
    if (const auto step = count_of(schema, "multipleOf")) return multiples(*step, min, max);
    if (!min && !max) return shared(integer_, [&] { return w_.rule(kInteger); });
    return bounded(integer_between(min, max));
  }

  std::string bounded(const std::string& body) {
    if (body.empty() && status_.ok()) status_ = invalid("JSON Schema: minimum and maximum leave no number");
    return w_.rule(body);
  }

  // Between two bounds they are written out; without bounds, the rest of a division is carried from digit to digit.
  std::string multiples(int64_t step, std::optional<int64_t> min, std::optional<int64_t> max) {
    if (min && max && (*max - *min) / step <= kMostMultiples) {
      Json values = Json::array();
      for (int64_t v = (*min >= 0 ? (*min + step - 1) / step : -(-*min / step)) * step; v <= *max; v += step)
        values.push_back(v);
      if (values.empty()) return bounded("");
      return choice(values, [](const Json& one) { return EbnfWriter::literal(dump(one)); });
    }
    const bool natural = min && *min == 0 && !max;
    if (step > kMostMultiples / 4 || ((min || max) && !natural)) {
      if (status_.ok()) {
        status_ = invalid("JSON Schema: multipleOf is supported up to ", kMostMultiples / 4,
                          " without bounds or with minimum 0, and with both where it leaves at most ", kMostMultiples,
                          " numbers");
      }
      return "\"\"";
    }
    std::vector<std::string> rests;
    for (int64_t rest = 0; rest < step; ++rest) rests.push_back(w_.reserve());
    for (int64_t rest = 0; rest < step; ++rest) {
      std::string body = rest == 0 ? "\"\"" : "";
      for (int64_t digit = 0; digit < 10; ++digit) {
        body +=
            cat(body.empty() ? "" : " | ", "\"", digit, "\" ", rests[static_cast<size_t>((rest * 10 + digit) % step)]);
      }
      w_.define(rests[static_cast<size_t>(rest)], body);
    }
    std::string body = "\"0\"";
    for (int64_t digit = 1; digit < 10; ++digit) {
      body += cat(" | ", natural ? "" : "\"-\"? ", "\"", digit, "\" ", rests[static_cast<size_t>(digit % step)]);
    }
    return w_.rule(body);
  }

  std::string number(const Json& schema) {
    const auto tighter = [&](const char* name, const char* exclusive_name, bool low) {
      std::optional<DecimalBound> out;
      for (const char* one : {name, exclusive_name}) {
        if (!schema.contains(one)) continue;
        const DecimalBound bound{std::llround(schema[one].get<double>() * 1e6), one == exclusive_name};
        const bool better = !out || (low ? bound.millionths >= out->millionths : bound.millionths <= out->millionths);
        if (better) out = bound;
      }
      return out;
    };
    const auto min = tighter("minimum", "exclusiveMinimum", true), max = tighter("maximum", "exclusiveMaximum", false);
    if (!min && !max) return shared(number_, [&] { return w_.rule(kNumber); });
    return bounded(decimal_between(min, max));
  }

  std::string string(const Json& schema) {
    if (schema.contains("pattern")) return quoted(schema["pattern"].get_ref<const std::string&>());
    if (schema.contains("format")) return quoted(format(schema["format"].get_ref<const std::string&>()));
    const auto min = count_of(schema, "minLength"), max = count_of(schema, "maxLength");
    if (!min && !max) return any_string();
    if (max && *max == 0) return EbnfWriter::literal("\"\"");
    // The first ones are not escaped. An escaped one counts as more than one, which keeps below the maximum.
    const std::string least = min ? cat(HEARTH_RAW_CHAR "{", *min, "} ") : "";
    const std::string body = w_.rule(cat(least, kCharacters), max ? cat("max_chars=", *max) : "");
    return quoted(body);
  }
  static std::string format(const std::string& name) {
    auto element = regex_to_ebnf(format_regex(name), RegexText::kJsonString);
    HEARTH_CHECK(element.ok());
    return std::move(element).value();
  }
  std::string quoted(std::string_view body) { return w_.rule(cat("\"\\\"\" ", body, " \"\\\"\"")); }

  std::string array(const Json& schema) {
    const auto min = count_of(schema, "minItems"), max = count_of(schema, "maxItems");
    std::string tuple;
    int64_t length = 0;
    if (schema.contains("prefixItems")) {
      for (const Json& item : schema["prefixItems"])
        tuple += cat(length++ > 0 ? cat(" ", kComma, " ") : "", value(item));
    }
    if (schema["items"] == false) return w_.rule(cat("\"[\" ", tuple, " \"]\""));
    const std::string item = value(schema["items"]);
    const int64_t least = std::max<int64_t>(min.value_or(0) - length, 0);
    const auto most = max ? std::optional(*max - length) : std::nullopt;
    const std::string more = w_.rule(cat(kComma, " ", item));
    if (length > 0) return w_.rule(cat("\"[\" ", tuple, " ", repeat(more, least, most), " \"]\""));
    return w_.rule(cat("\"[\" ", listed(item, more, least, most), " \"]\""));
  }

  // first more more ..., so many in all.
  static std::string listed(std::string_view first, std::string_view more, int64_t least, std::optional<int64_t> most) {
    if (most && *most == 0) return "\"\"";
    const std::string some =
        cat(first, " ", repeat(more, std::max<int64_t>(least - 1, 0), most ? std::optional(*most - 1) : std::nullopt));
    return least > 0 ? some : cat("(", some, ")?");
  }

  std::string object(const Json& schema) {
    // What one undeclared property is.
    std::string other;
    if (schema.contains("patternProperties")) {
      const auto pattern = schema["patternProperties"].begin();
      other = w_.rule(cat(quoted(pattern.key()), " ", kColon, " ", value(pattern.value())));
    } else if (schema["additionalProperties"] != false) {
      other = w_.rule(cat(other_name(schema), " ", kColon, " ", value(schema["additionalProperties"])));
    }
    const std::string more = other.empty() ? "" : w_.rule(cat(kComma, " ", other));
    const int64_t least = count_of(schema, "minProperties").value_or(0);
    if (!schema.contains("properties")) {
      if (other.empty()) return "\"{}\"";
      return w_.rule(cat("\"{\" ", listed(other, more, least, count_of(schema, "maxProperties")), " \"}\""));
    }
    // From the last property to the first: what follows where none came before it (`begin`), or one did (`rest`).
    std::string begin = other.empty() ? "" : listed(other, more, least, std::nullopt);
    std::string rest = other.empty() ? "\"\"" : cat(more, "*");
    if (begin.empty() && least == 0) begin = "\"\"";  // "" from here on: not possible
    std::vector<std::pair<std::string, const Json*>> properties;
    for (const auto& [name, property] : schema["properties"].items()) properties.emplace_back(name, &property);
    const Json required = schema.value("required", Json::array());
    for (auto it = properties.rbegin(); it != properties.rend(); ++it) {
      const bool needed = std::find(required.begin(), required.end(), Json(it->first)) != required.end();
      const std::string one = cat(EbnfWriter::literal(dump(it->first) + ": "), " ", value(*it->second));
      const std::string begins = cat(one, " ", rest);
      begin = needed || begin.empty() ? w_.rule(begins) : w_.rule(cat(begins, " | ", begin));
      rest = w_.rule(needed ? cat(kComma, " ", one, " ", rest) : cat(kComma, " ", one, " ", rest, " | ", rest));
    }
    return w_.rule(cat("\"{\" ", begin, " \"}\""));
  }

  std::string other_name(const Json& schema) {
    if (schema.contains("propertyNames")) return value(schema["propertyNames"]);
    if (!schema.contains("properties")) return any_string();
    // A name without escapes that is none of the declared ones.
    Trie declared;
    for (const auto& [name, property] : schema["properties"].items()) declared.add(name);
    return w_.rule(cat("\"\\\"\" ", unlike(declared)));
  }

  struct Trie {
    bool ends = false;
    std::map<std::string, Trie> next;  // by character
    void add(std::string_view name) {
      if (name.empty()) {
        ends = true;
        return;
      }
      size_t length = 1;
      while (length < name.size() && (name[length] & 0xC0) == 0x80) ++length;
      next[std::string(name.substr(0, length))].add(name.substr(length));
    }
  };
  // The rest of a name, with its closing quote, that is no name of the trie.
  std::string unlike(const Trie& node) {
    std::string excluded = "\"\\\\\\u0000-\\u001f\\ud800-\\udfff", body = node.ends ? "" : "\"\\\"\"";
    for (const auto& [character, rest] : node.next) {
      if (character == "\"" || character == "\\" || static_cast<unsigned char>(character[0]) < 0x20) continue;
      const bool special = character == "^" || character == "]" || character == "[" || character == "-";
      excluded += cat(special ? "\\" : "", character);
      body += cat(body.empty() ? "" : " | ", EbnfWriter::literal(character), " ", unlike(rest));
    }
    const std::string tail = shared(name_tail_, [&] { return w_.rule(HEARTH_RAW_CHAR "* \"\\\"\""); });
    body += cat(body.empty() ? "" : " | ", "[^", excluded, "] ", tail);
    return w_.rule(body);
  }

  EbnfWriter& w_;
  Status status_;
  std::map<std::string, std::string> definitions_;
  std::string string_, integer_, number_, any_, name_tail_;
};

}  // namespace

Result<std::string> write_schema(EbnfWriter& writer, const Json& plain) { return SchemaWriter(writer).write(plain); }

Result<std::string> format_element(const std::string& format) { return regex_to_ebnf(format_regex(format)); }

}  // namespace hearth
