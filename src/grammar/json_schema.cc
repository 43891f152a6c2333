// What stands in place is copied keyword by keyword; what it refers to becomes a numbered definition.
#include "grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "grammar/regex_to_ebnf.h"
#include "grammar/string_formats.h"

namespace hearth {
namespace {

constexpr std::string_view kTypes[] = {"null", "boolean", "integer", "number", "string", "array", "object"};

// Keywords that say nothing of what is valid. Unknown ones say nothing either (JSON Schema Core, 6.5).
constexpr std::string_view kRefused[] = {"not",
                                         "if",
                                         "then",
                                         "else",
                                         "dependentRequired",
                                         "dependencies",
                                         "contains",
                                         "minContains",
                                         "maxContains",
                                         "dependentSchemas",
                                         "$dynamicRef",
                                         "$recursiveRef",
                                         "unevaluatedItems",
                                         "unevaluatedProperties",
                                         "additionalItems"};

// Formats that say what a string looks like, but of which no grammar is known here.
constexpr std::string_view kRefusedFormats[] = {"idn-email",     "idn-hostname",          "iri",
                                                "iri-reference", "uri-reference",         "uri-template",
                                                "json-pointer",  "relative-json-pointer", "regex"};

struct KeywordsOfType {
  std::string_view type;
  std::vector<std::string_view> names;
};
const std::vector<KeywordsOfType>& keywords() {
  static const std::vector<KeywordsOfType> all{
      {"object",
       {"properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
        "maxProperties"}},
      {"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}},
      {"string", {"pattern", "format", "minLength", "maxLength"}},
      {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}},
  };
  return all;
}
bool constrains(std::string_view keyword) {
  if (keyword == "type" || keyword == "enum" || keyword == "const" || keyword == "$ref" || keyword == "anyOf" ||
      keyword == "oneOf" || keyword == "allOf") {
    return true;
  }
  return std::ranges::any_of(
             keywords(), [&](const auto& one) { return std::ranges::find(one.names, keyword) != one.names.end(); }) ||
         std::ranges::find(kRefused, keyword) != std::end(kRefused);
}

std::string_view type_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "boolean";
  if (value.is_string()) return "string";
  if (value.is_array()) return "array";
  if (value.is_object()) return "object";
  return value.is_number_integer() || std::trunc(value.get<double>()) == value.get<double>() ? "integer" : "number";
}
// A JSON pointer's ~1 and ~0.
std::string unescaped(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool escape = name[i] == '~' && i + 1 < name.size();
    out.push_back(!escape ? name[i] : name[i + 1] == '1' ? '/' : '~');
    if (escape) ++i;
  }
  return out;
}

bool has_type(const Json& value, std::string_view type) {
  const std::string_view own = type_of(value);
  return own == type || (own == "integer" && type == "number");
}

class Plainer {
 public:
  Plainer(const Json& root, const SchemaLimits& limits, bool leaves_out)
      : root_(root), limits_(limits), leaves_out_(leaves_out) {}

  Result<Json> run() {
    Json out = plain(root_, "", 0);
    // What refers to the root while it is being read finds it as a definition.
    while (status_.ok() && next_definition_ < definitions_.size()) {
      const size_t index = next_definition_++;
      const Definition next = definitions_[index];  // more may come, and move them
      Json one = plain(*next.source, next.path, 0);
      definitions_[index].plain = std::move(one);
    }
    if (!status_.ok()) return status_;
    HEARTH_TRY(check_ends(out));
    if (!definitions_.empty()) {
      if (!out.is_object()) out = Json::object();
      for (size_t i = 0; i < definitions_.size(); ++i) out["$defs"][cat("d", i)] = std::move(definitions_[i].plain);
    }
    return out;
  }

 private:
  struct Definition {
    const Json* source;
    std::string path;
    Json plain;
  };

  void refuse(const std::string& path, std::string_view keyword, std::string_view why) {
    if (!status_.ok()) return;
    refused_ = keyword;
    // Paths are made of keywords and numbers; a property's own name is the user's and is not repeated.
    status_ = invalid("JSON Schema: ", keyword, path.empty() ? "" : cat(" (at ", path, ")"), " ", why);
  }

  // Schemas are objects from here on; `true` is {}.
  Json plain(const Json& schema, const std::string& path, int64_t depth) {
    Json out = plain_or_refused(schema, path, depth);
    if (status_.ok() || !leaves_out_) return out;
    Json less = schema;
    while (!status_.ok()) {
      status_ = {};
      if (!less.is_object() || less.erase(std::string(refused_)) == 0) return Json::object();
      out = plain_or_refused(less, path, depth);
    }
    return out;
  }

  Json plain_or_refused(const Json& schema, const std::string& path, int64_t depth) {
    if (!status_.ok()) return {};
    if (++nodes_ > limits_.max_nodes) {
      refuse("", "the schema", cat("has more than ", limits_.max_nodes, " subschemas"));
      return {};
    }
    if (depth > limits_.max_depth) {
      refuse("", "the schema", cat("is nested deeper than ", limits_.max_depth));
      return {};
    }
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) refuse(path, "false", "is a schema that nothing satisfies");
      return Json::object();
    }
    if (!schema.is_object()) {
      refuse(path, "a schema", "must be an object or a boolean");
      return {};
    }
    for (const std::string_view name : kRefused) {
      if (schema.contains(name)) {
        refuse(path, name, "is not supported");
        return {};
      }
    }
    if (schema.contains("nullable") && schema["nullable"] == true)
      refuse(path, "nullable", "is not JSON Schema: use type [.., \"null\"]");
    if (schema.contains("allOf")) return plain_all_of(schema, path, depth);
    if (schema.contains("$ref")) return plain_ref(schema, path);
    if (schema.contains("const") || schema.contains("enum")) return plain_enum(schema, path);
    if (schema.contains("anyOf") || schema.contains("oneOf")) return plain_any_of(schema, path, depth);
    return plain_types(schema, path, depth);
  }

  // What constrains beside `keyword`; nothing else of the schema does.
  std::vector<std::string> beside(const Json& schema, std::initializer_list<std::string_view> own) const {
    std::vector<std::string> out;
    for (const auto& [key, value] : schema.items()) {
      if (constrains(key) && std::ranges::find(own, std::string_view(key)) == own.end()) out.push_back(key);
    }
    return out;
  }

  // One schema that holds where all of the parts hold; merged keyword by keyword where that is possible.
  Json plain_all_of(const Json& schema, const std::string& path, int64_t depth) {
    const Json& parts = schema["allOf"];
    if (!parts.is_array() || parts.empty()) {
      refuse(path, "allOf", "must be a list, not empty");
      return {};
    }
    Json merged = Json::object();
    for (const auto& [key, value] : schema.items()) {
      if (key != "allOf" && constrains(key)) merged[key] = value;
    }
    if (merged.empty() && parts.size() == 1) return plain(parts[0], cat(path, "/allOf/0"), depth + 1);
    for (size_t i = 0; i < parts.size(); ++i) {
      const Json* part = &parts[i];
      for (int hops = 0; status_.ok() && part->is_object() && part->contains("$ref"); ++hops) {
        if (!beside(*part, {"$ref"}).empty() || hops > 16) {
          refuse(path, "allOf", "holds a $ref that cannot be merged");
          return {};
        }
        part = target((*part)["$ref"], path);
        if (part == nullptr) return {};
      }
      merge(merged, *part, path);
    }
    if (!status_.ok()) return {};
    return plain(merged, path, depth + 1);
  }

  void merge(Json& into, const Json& part, const std::string& path) {
    if (part == true) return;
    if (!part.is_object()) return refuse(path, "allOf", "must hold objects");
    for (const std::string_view closed : {"additionalProperties", "patternProperties"}) {
      if ((part.contains(closed) && part[closed] != true && into.contains("properties")) ||
          (into.contains(closed) && into[closed] != true && part.contains("properties"))) {
        return refuse(path, "allOf", cat("cannot be merged: ", closed, " beside another part's properties"));
      }
    }
    if (into.contains("items") != part.contains("items") &&
        (into.contains("prefixItems") || part.contains("prefixItems"))) {
      return refuse(path, "allOf", "cannot be merged: items beside another part's prefixItems");
    }
    for (const auto& [key, value] : part.items()) {
      if (!constrains(key)) continue;
      if (!into.contains(key) || into[key] == value) {
        into[key] = value;
      } else if (key == "required" && value.is_array() && into[key].is_array()) {
        for (const Json& name : value) {
          if (std::find(into[key].begin(), into[key].end(), name) == into[key].end()) into[key].push_back(name);
        }
      } else if (key == "properties" && value.is_object() && into[key].is_object()) {
        for (const auto& [name, property] : value.items()) {
          if (into[key].contains(name) && into[key][name] != property) {
            return refuse(path, "allOf", "cannot be merged: two parts say something of the same property");
          }
          into[key][name] = property;
        }
      } else if ((key == "minimum" || key == "exclusiveMinimum" || key == "minLength" || key == "minItems" ||
                  key == "minProperties") &&
                 value.is_number() && into[key].is_number()) {
        if (value.get<double>() > into[key].get<double>()) into[key] = value;
      } else if ((key == "maximum" || key == "exclusiveMaximum" || key == "maxLength" || key == "maxItems" ||
                  key == "maxProperties") &&
                 value.is_number() && into[key].is_number()) {
        if (value.get<double>() < into[key].get<double>()) into[key] = value;
      } else {
        return refuse(path, "allOf", cat("cannot be merged: two parts have ", key));
      }
    }
  }

  // Where a reference leads to.
  const Json* target(const Json& ref, const std::string& path) {
    if (!ref.is_string()) {
      refuse(path, "$ref", "must be a string");
      return nullptr;
    }
    const auto& uri = ref.get_ref<const std::string&>();
    if (uri == "#") return &root_;
    if (!uri.starts_with("#/") || uri.find('%') != std::string::npos) {
      refuse(path, "$ref", "must point into the schema itself: \"#/...\"");
      return nullptr;
    }
    const Json* at = &root_;
    for (size_t begin = 2; begin <= uri.size();) {
      const size_t end = std::min(uri.find('/', begin), uri.size());
      std::string name = uri.substr(begin, end - begin);
      name = unescaped(name);
      begin = end + 1;
      if (at->is_object() && at->contains(name)) {
        at = &(*at)[name];
      } else if (at->is_array() && !name.empty() && name.size() < 6 &&
                 std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; }) &&
                 static_cast<size_t>(std::stol(name)) < at->size()) {
        at = &(*at)[static_cast<size_t>(std::stol(name))];
      } else {
        refuse(path, "$ref", "points to nothing");
        return nullptr;
      }
    }
    return at;
  }

  Json plain_ref(const Json& schema, const std::string& path) {
    if (const auto others = beside(schema, {"$ref"}); !others.empty()) {
      refuse(path, others[0], "beside $ref is not supported");
      return {};
    }
    const Json* const at = target(schema["$ref"], path);
    if (at == nullptr) return {};
    size_t index = 0;
    while (index < definitions_.size() && definitions_[index].source != at) ++index;
    if (index == definitions_.size()) definitions_.push_back({at, schema["$ref"] == "#" ? "" : "$ref", {}});
    return {{"$ref", cat("#/$defs/d", index)}};
  }

  Json plain_enum(const Json& schema, const std::string& path) {
    const bool is_const = schema.contains("const");
    const std::string_view keyword = is_const ? "const" : "enum";
    const auto others = is_const ? beside(schema, {"const", "type"}) : beside(schema, {"enum", "type"});
    if (!others.empty()) {
      refuse(path, others[0], cat("beside ", keyword, " is not supported"));
      return {};
    }
    const Json values = is_const ? Json::array({schema["const"]}) : schema["enum"];
    if (!values.is_array() || values.empty()) {
      refuse(path, "enum", "must be a list, not empty");
      return {};
    }
    const std::vector<std::string> types = types_of(schema, path);
    Json kept = Json::array();
    for (const Json& value : values) {
      if ((enum_values_ += 1) > limits_.max_enum_values ||
          (enum_bytes_ += static_cast<int64_t>(value.dump().size())) > limits_.max_enum_bytes) {
        refuse(path, keyword,
               cat("has more than ", limits_.max_enum_values, " values or ", limits_.max_enum_bytes,
                   " bytes in the whole schema"));
        return {};
      }
      if (types.empty() || std::ranges::any_of(types, [&](const auto& type) { return has_type(value, type); })) {
        kept.push_back(value);
      }
    }
    if (kept.empty()) refuse(path, keyword, "has no value of its type");
    return {{"enum", std::move(kept)}};
  }

  // Every alternative gets what stands beside the keyword.
  Json plain_any_of(const Json& schema, const std::string& path, int64_t depth) {
    const bool any = schema.contains("anyOf");
    const std::string_view keyword = any ? "anyOf" : "oneOf";
    if (any && schema.contains("oneOf")) {
      refuse(path, "oneOf", "beside anyOf is not supported");
      return {};
    }
    const Json& options = schema[keyword];
    if (!options.is_array() || options.empty()) {
      refuse(path, keyword, "must be a list, not empty");
      return {};
    }
    Json rest = Json::object();
    for (const auto& [key, value] : schema.items()) {
      if (key != keyword && constrains(key)) rest[key] = value;
    }
    Json out = Json::array();
    for (size_t i = 0; i < options.size() && status_.ok(); ++i) {
      const std::string where = cat(path, "/", keyword, "/", i);
      const Json* option = &options[i];
      // Whether alternatives exclude each other is seen in them, not in what refers to them.
      for (int hops = 0; (!any || !rest.empty()) && option->is_object() && option->contains("$ref") &&
                         beside(*option, {"$ref"}).empty() && hops < 16;
           ++hops) {
        option = target((*option)["$ref"], where);
        if (option == nullptr) return {};
      }
      if (option->is_boolean() && !option->get<bool>()) continue;
      if (rest.empty()) {
        out.push_back(plain(*option, where, depth + 1));
        continue;
      }
      Json merged = rest;
      merge_option(merged, *option, keyword, where);
      if (status_.ok()) out.push_back(plain(merged, where, depth + 1));
    }
    if (status_.ok() && out.empty()) refuse(path, keyword, "has no alternative that can be satisfied");
    for (size_t i = 0; !any && status_.ok() && i < out.size(); ++i) {
      for (size_t k = 0; k < i; ++k) {
        if (disjoint(out[i], out[k])) continue;
        refuse(path, keyword,
               "is supported where its alternatives exclude each other by type, by a constant or by a property");
        return {};
      }
    }
    if (out.size() == 1) return std::move(out[0]);
    return {{"anyOf", std::move(out)}};
  }

  // Whether no value can satisfy both; of plain schemas.
  static bool disjoint(const Json& a, const Json& b) {
    for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if (!one->contains("anyOf")) continue;
      return std::ranges::all_of((*one)["anyOf"],
                                 [other = other](const Json& option) { return disjoint(option, *other); });
    }
    const auto types_a = possible_types(a), types_b = possible_types(b);
    if (std::ranges::none_of(types_a, [&](const auto& type) { return types_b.contains(type); })) return true;
    if (a.contains("enum") && b.contains("enum")) {
      return std::ranges::none_of(a["enum"], [&](const Json& value) {
        return std::find(b["enum"].begin(), b["enum"].end(), value) != b["enum"].end();
      });
    }
    if (types_a != std::set<std::string_view>{"object"} || types_b != types_a) return false;
    if (a.contains("enum") || b.contains("enum")) return false;
    for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      for (const Json& name : one->value("required", Json::array())) {
        const auto& key = name.get_ref<const std::string&>();
        if (!other->contains("properties") || !(*other)["properties"].contains(key)) {
          if (other->contains("additionalProperties") && (*other)["additionalProperties"] == false) return true;
          continue;
        }
        const Json& left = (*one)["properties"][key];
        const Json& right = (*other)["properties"][key];
        const Json others_required = other->value("required", Json::array());
        if (std::find(others_required.begin(), others_required.end(), name) != others_required.end() &&
            left.contains("enum") && right.contains("enum") && disjoint(left, right)) {
          return true;
        }
      }
    }
    return false;
  }
  // An integer is a number: both names stand for it.
  static std::set<std::string_view> possible_types(const Json& schema) {
    std::set<std::string_view> out;
    if (schema.contains("enum")) {
      for (const Json& value : schema["enum"]) out.insert(type_of(value));
    } else if (schema.contains("type")) {
      out.insert(schema["type"].get_ref<const std::string&>());
    } else {
      return {std::begin(kTypes), std::end(kTypes)};
    }
    if (out.contains("integer") || out.contains("number")) out.insert({"integer", "number"});
    return out;
  }

  void merge_option(Json& into, const Json& option, std::string_view keyword, const std::string& path) {
    const size_t before = status_.ok();
    merge(into, option, path);
    if (before && !status_.ok()) {
      status_ = invalid("JSON Schema: ", keyword, " (at ", path, ") cannot be merged with what stands beside it");
      refused_ = keyword;
    }
  }

  std::vector<std::string> types_of(const Json& schema, const std::string& path) {
    std::vector<std::string> out;
    if (!schema.contains("type")) return out;
    const Json& type = schema["type"];
    const Json list = type.is_array() ? type : Json::array({type});
    for (const Json& one : list) {
      if (!one.is_string() ||
          std::ranges::find(kTypes, std::string_view(one.get_ref<const std::string&>())) == std::end(kTypes)) {
        refuse(path, "type", "must name JSON's types: null, boolean, integer, number, string, array, object");
        return out;
      }
      out.push_back(one);
    }
    if (out.empty()) refuse(path, "type", "must not be an empty list");
    return out;
  }

  Json plain_types(const Json& schema, const std::string& path, int64_t depth) {
    std::vector<std::string> types = types_of(schema, path);
    if (types.empty()) {
      // Keywords of one type say nothing of the others; the grammar keeps to the types that they speak of.
      for (const KeywordsOfType& one : keywords()) {
        if (std::ranges::any_of(one.names, [&](std::string_view name) { return schema.contains(name); }))
          types.emplace_back(one.type);
      }
    }
    if (types.empty()) return Json::object();
    Json options = Json::array();
    for (const std::string& type : types) {
      if (type == "integer" && std::ranges::find(types, "number") != types.end()) continue;
      Json out{{"type", type}};
      if (type == "object") plain_object(schema, out, path, depth);
      if (type == "array") plain_array(schema, out, path, depth);
      if (type == "string") plain_string(schema, out, path);
      if (type == "integer" || type == "number") plain_number(schema, out, path);
      if (!status_.ok()) return {};
      options.push_back(std::move(out));
    }
    if (options.size() == 1) return std::move(options[0]);
    return {{"anyOf", std::move(options)}};
  }

  // Nullopt where absent, or refused.
  std::optional<int64_t> count(const Json& schema, std::string_view name, int64_t most, const std::string& path) {
    if (!schema.contains(name)) return std::nullopt;
    const Json& value = schema[name];
    if (!value.is_number() || value.get<double>() < 0 || std::trunc(value.get<double>()) != value.get<double>()) {
      refuse(path, name, "must be a whole number, not negative");
      return std::nullopt;
    }
    if (value.get<double>() > static_cast<double>(most)) {
      refuse(path, name, cat("must be at most ", most));
      return std::nullopt;
    }
    return static_cast<int64_t>(value.get<double>());
  }

  void read_counts(const Json& schema, Json& out, std::string_view low, std::string_view high, int64_t most,
                   const std::string& path) {
    const auto min = count(schema, low, most, path), max = count(schema, high, most, path);
    if (min && *min > 0) out[low] = *min;
    if (max) out[high] = *max;
    if (min && max && *min > *max) refuse(path, low, cat("is above ", high));
  }

  void plain_string(const Json& schema, Json& out, const std::string& path) {
    read_counts(schema, out, "minLength", "maxLength", limits_.max_length, path);
    if (out.value("minLength", int64_t{0}) > limits_.max_min_length) {
      return refuse(path, "minLength", cat("must be at most ", limits_.max_min_length));
    }
    RegexLength length;
    length.min = out.value("minLength", int64_t{0});
    length.max = out.value("maxLength", RegexLength::kNoLimit);
    const bool bounded = out.contains("minLength") || out.contains("maxLength");
    const auto keep = [&](std::string_view keyword, std::string_view regex) {
      auto element = regex_to_ebnf(regex, RegexText::kJsonString, length);
      if (!element.ok()) return refuse(path, keyword, cat("is refused: ", element.status().message()));
      out["pattern"] = *element;
      out.erase("minLength");
      out.erase("maxLength");
    };
    if (schema.contains("pattern")) {
      if (!schema["pattern"].is_string()) return refuse(path, "pattern", "must be a string");
      keep("pattern", schema["pattern"].get_ref<const std::string&>());
    }
    if (!schema.contains("format")) return;
    if (!schema["format"].is_string()) return refuse(path, "format", "must be a string");
    const std::string_view format = schema["format"].get_ref<const std::string&>();
    if (std::ranges::find(kRefusedFormats, format) != std::end(kRefusedFormats))
      return refuse(path, "format", "is one that is not supported");
    if (format_regex(format).empty()) return;
    if (schema.contains("pattern")) return refuse(path, "format", "beside pattern is not supported");
    if (bounded) return keep("format", format_regex(format));
    out["format"] = format;
  }

  void plain_number(const Json& schema, Json& out, const std::string& path) {
    const bool integer = out["type"] == "integer";
    // Beyond it a double no longer holds every integer.
    constexpr double kMost = 9007199254740991.0;
    for (const std::string_view name : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}) {
      if (!schema.contains(name)) continue;
      const Json& value = schema[name];
      if (!value.is_number()) return refuse(path, name, "must be a number");
      const double v = value.get<double>();
      if (std::fabs(v) > kMost) return refuse(path, name, "is beyond 2^53");
      const double whole = std::trunc(v);
      if (name == "multipleOf") {
        if (!integer) return refuse(path, name, "is supported for integers only");
        if (v < 1 || whole != v) return refuse(path, name, "must be a whole number, at least 1");
        if (v > 1) out[name] = static_cast<int64_t>(v);
      } else if (integer) {
        // The bound that integers can have.
        if (name == "minimum") raise(out, "minimum", static_cast<int64_t>(std::ceil(v)));
        if (name == "maximum") lower(out, "maximum", static_cast<int64_t>(std::floor(v)));
        if (name == "exclusiveMinimum") raise(out, "minimum", static_cast<int64_t>(std::floor(v)) + 1);
        if (name == "exclusiveMaximum") lower(out, "maximum", static_cast<int64_t>(std::ceil(v)) - 1);
      } else {
        if (std::fabs(v) > 1e9 || std::fabs(v * 1e6 - std::round(v * 1e6)) > 1e-9 * std::fabs(v * 1e6)) {
          return refuse(path, name, "is supported up to 1e9 and to six decimal places for numbers");
        }
        out[name] = whole == v ? Json(static_cast<int64_t>(v)) : value;
      }
    }
  }

  static void raise(Json& out, const char* name, int64_t bound) {
    if (!out.contains(name) || out[name].get<int64_t>() < bound) out[name] = bound;
  }
  static void lower(Json& out, const char* name, int64_t bound) {
    if (!out.contains(name) || out[name].get<int64_t>() > bound) out[name] = bound;
  }

  void plain_array(const Json& schema, Json& out, const std::string& path, int64_t depth) {
    read_counts(schema, out, "minItems", "maxItems", limits_.max_items, path);
    if (schema.contains("uniqueItems")) {
      if (!schema["uniqueItems"].is_boolean()) return refuse(path, "uniqueItems", "must be a boolean");
      if (schema["uniqueItems"] == true && !(out.contains("maxItems") && out["maxItems"].get<int64_t>() < 2))
        return refuse(path, "uniqueItems", "is not supported");
    }
    int64_t tuple = 0;
    if (schema.contains("prefixItems")) {
      if (!schema["prefixItems"].is_array()) return refuse(path, "prefixItems", "must be a list");
      out["prefixItems"] = Json::array();
      for (const Json& item : schema["prefixItems"]) {
        Json one = plain(item, cat(path, "/prefixItems/", tuple++), depth + 1);
        if (!status_.ok()) return;
        out["prefixItems"].push_back(std::move(one));
      }
    }
    const Json* items = schema.contains("items") ? &schema["items"] : nullptr;
    if (items != nullptr && items->is_array())
      return refuse(path, "items", "as a list is not supported: use prefixItems");
    const bool closed = items != nullptr ? *items == false : tuple > 0;
    if (out.contains("maxItems") && out["maxItems"].get<int64_t>() < tuple)
      return refuse(path, "maxItems", "is less than prefixItems has");
    if (closed) {
      if (out.contains("minItems") && out["minItems"].get<int64_t>() > tuple)
        return refuse(path, "minItems", "is more than prefixItems has");
      out.erase("minItems");
      out.erase("maxItems");
      out["items"] = false;
    } else {
      out["items"] = items == nullptr ? Json::object() : plain(*items, cat(path, "/items"), depth + 1);
    }
  }

  void plain_object(const Json& schema, Json& out, const std::string& path, int64_t depth) {
    std::set<std::string> required;
    std::vector<std::string> required_order;
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) return refuse(path, "required", "must be a list of strings");
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) return refuse(path, "required", "must be a list of strings");
        if (required.insert(name).second) required_order.push_back(name);
      }
    }
    Json properties = Json::object();
    if (schema.contains("properties")) {
      if (!schema["properties"].is_object()) return refuse(path, "properties", "must be an object");
      for (const auto& [name, property] : schema["properties"].items()) {
        if (property == false) {
          if (required.contains(name)) return refuse(path, "required", "names a property that must not be there");
          refuse(path, "properties", "with the schema false is not supported");
          return;
        }
        properties[name] = plain(property, cat(path, "/properties"), depth + 1);
        if (!status_.ok()) return;
      }
    }
    Json others = !schema.contains("properties") && !schema.contains("patternProperties");  // for undeclared properties
    if (schema.contains("additionalProperties")) {
      const Json& value = schema["additionalProperties"];
      others = value.is_boolean() ? value : plain(value, cat(path, "/additionalProperties"), depth + 1);
      if (!status_.ok()) return;
    }
    if (schema.contains("patternProperties") && !schema["patternProperties"].empty()) {
      const Json& patterns = schema["patternProperties"];
      if (!patterns.is_object()) return refuse(path, "patternProperties", "must be an object");
      if (!properties.empty() || !required.empty() || patterns.size() > 1 || schema.contains("propertyNames") ||
          others != false) {
        return refuse(
            path, "patternProperties",
            "is supported with one pattern, and without properties, required, propertyNames and additionalProperties");
      }
      for (const auto& [pattern, value] : patterns.items()) {
        auto regex = regex_to_ebnf(pattern, RegexText::kJsonString);
        if (!regex.ok()) return refuse(path, "patternProperties", cat("is refused: ", regex.status().message()));
        out["patternProperties"][*regex] = plain(value, cat(path, "/patternProperties"), depth + 1);
      }
    }
    if (schema.contains("propertyNames")) {
      if (!properties.empty() || !required.empty() || others == false)
        return refuse(path, "propertyNames", "beside properties or required is not supported");
      Json names = plain(schema["propertyNames"], cat(path, "/propertyNames"), depth + 1);
      if (!status_.ok()) return;
      if (names.contains("$ref") || names.contains("anyOf"))
        return refuse(path, "propertyNames", "is supported as one schema of strings");
      if (names.contains("enum")) {
        Json strings = Json::array();
        for (const Json& value : names["enum"]) {
          if (value.is_string()) strings.push_back(value);
        }
        if (strings.empty()) return refuse(path, "propertyNames", "must allow strings");
        names["enum"] = std::move(strings);
      }
      if (names.contains("type") && names["type"] != "string")
        return refuse(path, "propertyNames", "must allow strings");
      if (names.empty()) names = {{"type", "string"}};
      out["propertyNames"] = std::move(names);
    }
    for (const std::string& name : required_order) {
      if (properties.contains(name)) continue;
      if (others == false) return refuse(path, "required", "names a property that is not declared");
      properties[name] = others == true ? Json::object() : others;
    }
    read_counts(schema, out, "minProperties", "maxProperties", limits_.max_items, path);
    const auto declared = static_cast<int64_t>(properties.size()), least_there = static_cast<int64_t>(required.size());
    if (out.contains("minProperties")) {
      const auto least = out["minProperties"].get<int64_t>();
      const bool open = others != false || out.contains("patternProperties");
      if (least <= least_there) {
        out.erase("minProperties");
      } else if (!open && least > declared) {
        return refuse(path, "minProperties", "is more than there are");
      } else if (least > 1) {  // undeclared properties may come twice, and then count once
        return refuse(path, "minProperties", "above 1 is supported where as many are required");
      }
    }
    if (out.contains("maxProperties")) {
      const auto most = out["maxProperties"].get<int64_t>();
      if (most < least_there) return refuse(path, "maxProperties", "is less than are required");
      if (others == false && !out.contains("patternProperties") && most >= declared) {
        out.erase("maxProperties");
      } else if (declared > 0) {
        return refuse(path, "maxProperties", "is supported where no property is declared");
      }
    }
    if (!properties.empty()) out["properties"] = std::move(properties);
    if (!required.empty()) out["required"] = required_order;
    if (!out.contains("patternProperties")) out["additionalProperties"] = others == true ? Json::object() : others;
  }

  // Whether every value that the schema asks for can be finite, and whether no definition is just itself again.
  Status check_ends(const Json& root) const {
    std::vector<bool> ends(definitions_.size());
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < ends.size(); ++i) {
        if (ends[i] || !can_end(definitions_[i].plain, ends)) continue;
        ends[i] = changed = true;
      }
    }
    if (!can_end(root, ends) || std::ranges::find(ends, false) != ends.end()) {
      return invalid("JSON Schema: $ref refers to itself without end");
    }
    for (size_t i = 0; i < definitions_.size(); ++i) {
      std::vector<bool> seen(definitions_.size());
      if (leads_to(definitions_[i].plain, i, seen)) return invalid("JSON Schema: $ref refers to itself");
    }
    return {};
  }
  static size_t index_of(const Json& schema) {
    return static_cast<size_t>(std::stoul(schema["$ref"].get_ref<const std::string&>().substr(9)));
  }
  static bool can_end(const Json& schema, const std::vector<bool>& ends) {
    if (!schema.is_object()) return true;
    if (schema.contains("$ref")) return ends[index_of(schema)];
    for (const std::string_view keyword : {"anyOf", "oneOf"}) {
      if (!schema.contains(keyword)) continue;
      return std::ranges::any_of(schema[keyword], [&](const Json& option) { return can_end(option, ends); });
    }
    if (schema.contains("properties")) {
      for (const Json& name : schema.value("required", Json::array())) {
        if (!can_end(schema["properties"][name.get_ref<const std::string&>()], ends)) return false;
      }
    }
    const int64_t least = schema.value("minItems", int64_t{0});
    if (schema.contains("prefixItems")) {
      for (const Json& item : schema["prefixItems"]) {
        if (!can_end(item, ends)) return false;
      }
    }
    return least == 0 || !schema.contains("items") || can_end(schema["items"], ends);
  }
  // Whether a value of the schema may be one of definition `wanted`, with no character around it.
  bool leads_to(const Json& schema, size_t wanted, std::vector<bool>& seen) const {
    if (!schema.is_object()) return false;
    if (schema.contains("$ref")) {
      const size_t index = index_of(schema);
      if (index == wanted) return true;
      if (seen[index]) return false;
      seen[index] = true;
      return leads_to(definitions_[index].plain, wanted, seen);
    }
    for (const std::string_view keyword : {"anyOf", "oneOf"}) {
      if (!schema.contains(keyword)) continue;
      for (const Json& option : schema[keyword]) {
        if (leads_to(option, wanted, seen)) return true;
      }
    }
    return false;
  }

  const Json& root_;
  const SchemaLimits& limits_;
  const bool leaves_out_;  // what is refused
  Status status_;
  std::string refused_;  // the keyword that status_ speaks of
  int64_t nodes_ = 0, enum_values_ = 0, enum_bytes_ = 0;
  std::vector<Definition> definitions_;
  size_t next_definition_ = 0;
};

}  // namespace

Result<Json> plain_schema(const Json& schema, const SchemaLimits& limits) {
  return Plainer(schema, limits, false).run();
}

Json schema_that_can_be_kept(const Json& schema, const SchemaLimits& limits) {
  auto plain = Plainer(schema, limits, true).run();
  return plain.ok() ? std::move(plain).value() : Json::object();
}

}  // namespace hearth
