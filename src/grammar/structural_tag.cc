// A function a type of format.
#include "grammar/structural_tag.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "grammar/answer_form.h"

namespace hearth {
namespace {

constexpr int64_t kMaxDepth = 16;
constexpr size_t kMaxTags = 512;  // of one list, and triggers

class TagWriter {
 public:
  explicit TagWriter(EbnfWriter& writer) : w_(writer) {}

  Result<std::string> write(const Json& tag) {
    std::string out;
    if (tag.contains("format")) {
      keys(tag, {"type", "format"}, "");
      out = format(tag["format"], {}, 0);
    } else {
      keys(tag, {"type", "structures", "triggers"}, "");
      out = older(tag);
    }
    if (!status_.ok()) return status_;
    return out;
  }

 private:
  // What must not be in free text here: ends of the tags around it.
  using Ends = std::vector<std::string>;

  void refuse(std::string_view what, std::string_view why) {
    if (status_.ok()) status_ = invalid("structural tag: ", what, " ", why);
  }
  void keys(const Json& value, std::initializer_list<std::string_view> known, std::string_view type) {
    for (const auto& [key, one] : value.items()) {
      if (one.is_null() || std::ranges::find(known, std::string_view(key)) != known.end()) continue;
      refuse(type.empty() ? "the object" : type, "has a field that is not supported");
    }
  }
  // A field that must be there; null where it is not.
  const Json* field(const Json& value, const char* name) {
    const auto at = value.find(name);
    if (at != value.end()) return &*at;
    refuse(name, "is missing");
    return nullptr;
  }
  std::string text(const Json& value, const char* name) {
    const Json* at = field(value, name);
    if (at == nullptr) return {};
    if (!at->is_string()) refuse(name, "must be a string");
    return at->is_string() ? at->get<std::string>() : std::string();
  }
  const Json& list(const Json& value, const char* name) {
    static const Json kNone = Json::array();
    const Json* at = field(value, name);
    if (at == nullptr) return kNone;
    if (at->is_array() && !at->empty() && at->size() <= kMaxTags) return *at;
    refuse(name, cat("must be a list of 1 to ", kMaxTags));
    return kNone;
  }
  bool flag(const Json& value, const char* name) {
    const auto at = value.find(name);
    if (at == value.end() || at->is_null()) return false;
    if (!at->is_boolean()) refuse(name, "must be true or false");
    return *at == true;
  }
  std::string form(GrammarSpec::Kind kind, std::string content) {
    auto out = write_form(w_, {kind, std::move(content)});
    if (out.ok()) return *out;
    if (status_.ok()) status_ = out.status();
    return "\"\"";
  }
  std::string schema(const Json& value, const char* name) {
    const Json* at = field(value, name);
    return at == nullptr ? "\"\"" : form(GrammarSpec::Kind::kJsonSchema, at->dump());
  }

  std::string format(const Json& value, const Ends& ends, int64_t depth) {
    if (!status_.ok()) return {};
    if (depth > kMaxDepth) {
      refuse("the format", cat("is nested deeper than ", kMaxDepth));
      return {};
    }
    if (!value.is_object()) {
      refuse("a format", "must be an object");
      return {};
    }
    const std::string type = text(value, "type");
    if (type == "const_string") {
      keys(value, {"type", "value"}, type);
      return EbnfWriter::literal(text(value, "value"));
    }
    if (type == "json_schema") {
      keys(value, {"type", "json_schema", "style"}, type);
      if (value.value("style", Json("json")) != "json") refuse("style", "is supported as json only");
      return schema(value, "json_schema");
    }
    if (type == "regex") {
      keys(value, {"type", "pattern"}, type);
      return form(GrammarSpec::Kind::kRegex, text(value, "pattern"));
    }
    if (type == "grammar") {
      keys(value, {"type", "grammar"}, type);
      return form(GrammarSpec::Kind::kEbnf, text(value, "grammar"));
    }
    if (type == "any_text") {
      keys(value, {"type"}, type);
      return free_text(w_, ends);
    }
    if (type == "sequence" || type == "or") {
      keys(value, {"type", "elements"}, type);
      std::string out;
      for (const Json& one : list(value, "elements")) {
        out += cat(out.empty() ? "" : type == "or" ? " | " : " ", format(one, ends, depth + 1));
      }
      return w_.rule(out.empty() ? "\"\"" : out);
    }
    if (type == "tag") return w_.rule(tag_from(value, 0, depth));
    if (type == "triggered_tags") return triggered_tags(value, ends, depth);
    if (type == "tags_with_separator") return tags_with_separator(value, depth);
    refuse("a format's type",
           "must be const_string, json_schema, regex, grammar, any_text, sequence, or, tag, triggered_tags or "
           "tags_with_separator");
    return {};
  }

  // A tag without the first `skip` bytes of its beginning.
  std::string tag_from(const Json& tag, size_t skip, int64_t depth) {
    if (!tag.is_object()) {
      refuse("a tag", "must be an object");
      return "\"\"";
    }
    keys(tag, {"type", "begin", "content", "end"}, "tag");
    const std::string begin = text(tag, "begin");
    const Json* end = field(tag, "end");
    const Json* content = field(tag, "content");
    if (end == nullptr || content == nullptr || !status_.ok()) return "\"\"";
    const Json list = end->is_array() ? *end : Json::array({*end});
    Ends ends;
    std::string endings;
    for (const Json& one : list) {
      if (!one.is_string()) {
        refuse("end", "must be a string or a list of strings");
        return "\"\"";
      }
      ends.push_back(one);
      endings += cat(endings.empty() ? "" : " | ", EbnfWriter::literal(ends.back()));
    }
    if (endings.empty()) {
      refuse("end", "must not be an empty list");
      return "\"\"";
    }
    return cat(EbnfWriter::literal(begin.substr(std::min(skip, begin.size()))), " ", format(*content, ends, depth + 1),
               " (", endings, ")");
  }

  std::string tags_with_separator(const Json& value, int64_t depth) {
    keys(value, {"type", "tags", "separator", "at_least_one", "stop_after_first"}, "tags_with_separator");
    const std::string one = any_of(list(value, "tags"), depth),
                      separator = EbnfWriter::literal(text(value, "separator"));
    const std::string all = flag(value, "stop_after_first") ? one : cat(one, " (", separator, " ", one, ")*");
    return w_.rule(flag(value, "at_least_one") ? all : cat("(", all, ")?"));
  }
  std::string any_of(const Json& tags, int64_t depth) {
    std::string out;
    for (const Json& tag : tags) out += cat(out.empty() ? "" : " | ", w_.rule(tag_from(tag, 0, depth)));
    return w_.rule(out.empty() ? "\"\"" : out);
  }

  std::string triggered_tags(const Json& value, const Ends& ends, int64_t depth) {
    keys(value, {"type", "triggers", "tags", "at_least_one", "stop_after_first"}, "triggered_tags");
    const bool first = flag(value, "at_least_one"), once = flag(value, "stop_after_first");
    const Json& tags = list(value, "tags");
    const std::string one = first ? any_of(tags, depth) : "";
    if (first && once) return one;
    const std::string rest = dispatch(list(value, "triggers"), tags, ends, once, depth);
    return first ? w_.rule(cat(one, " ", rest)) : rest;
  }

  // Free text until a trigger has come; then the rest of a tag that begins with it.
  std::string dispatch(const Json& triggers, const Json& tags, const Ends& ends, bool once, int64_t depth) {
    std::vector<std::string> rest(triggers.size());
    for (const Json& tag : tags) {
      if (!status_.ok()) return "\"\"";
      const std::string begin = tag.is_object() ? text(tag, "begin") : "";
      bool found = false;
      for (size_t i = 0; i < triggers.size() && !found; ++i) {
        if (!triggers[i].is_string() || triggers[i] == "") {
          refuse("triggers", "must be strings, not empty");
          return "\"\"";
        }
        const auto& trigger = triggers[i].get_ref<const std::string&>();
        if (!begin.starts_with(trigger)) continue;
        found = true;
        rest[i] += cat(rest[i].empty() ? "" : " | ", w_.rule(tag_from(tag, trigger.size(), depth)));
      }
      if (!found) refuse("a tag", "begins with none of the triggers");
    }
    std::string body, excludes;
    for (size_t i = 0; i < rest.size(); ++i) {
      if (rest[i].empty()) refuse("a trigger", "begins no tag");
      if (!status_.ok()) return "\"\"";
      body += cat("(", EbnfWriter::literal(triggers[i].get_ref<const std::string&>()), ", ", w_.rule(rest[i]), "), ");
    }
    for (const std::string& end : ends) excludes += end.empty() ? "" : cat(EbnfWriter::literal(end), ",");
    return w_.rule(cat("TagDispatch(", body, "loop_after_dispatch=", !once,
                       excludes.empty() ? "" : cat(", excludes=(", excludes, ")"), ")"));
  }

  std::string older(const Json& value) {
    Json tags = Json::array();
    for (const Json& structure : list(value, "structures")) {
      if (!structure.is_object()) {
        refuse("structures", "must be objects");
        return {};
      }
      keys(structure, {"begin", "schema", "end"}, "a structure");
      const Json* schema = field(structure, "schema");
      if (schema == nullptr) return {};
      tags.push_back({{"begin", text(structure, "begin")},
                      {"end", text(structure, "end")},
                      {"content", {{"type", "json_schema"}, {"json_schema", *schema}}}});
    }
    return dispatch(list(value, "triggers"), tags, {}, false, 0);
  }

  EbnfWriter& w_;
  Status status_;
};

}  // namespace

Result<std::string> write_structural_tag(EbnfWriter& writer, const Json& tag) { return TagWriter(writer).write(tag); }

}  // namespace hearth
