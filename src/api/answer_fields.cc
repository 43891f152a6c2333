// Five spellings of an answer's form, one of tools, and what goes with them.
#include "api/answer_fields.h"

#include <algorithm>
#include <set>

#include "grammar/json_schema.h"

namespace hearth {
namespace {

constexpr int64_t kMaxChoices = 2000;
constexpr int64_t kMaxTools = 512;
constexpr size_t kMaxNameBytes = 64;

using Kind = GrammarSpec::Kind;

// Clients fill in what they do not use: empty texts, lists and objects, and false, ask for nothing.
const Json* asked(const Fields& fields, std::string_view name) {
  const Json* value = fields.get(name);
  return value == nullptr || *value == false || *value == "" || value->empty() ? nullptr : value;
}

class FormReader {
 public:
  FormReader(Fields& fields, AnswerForm& out) : fields_(fields), out_(out) {}

  void set(std::string_view name, Kind kind, std::string text) {
    if (out_.spec) return fields_.refuse(name, "beside another form of the answer is not supported");
    out_ = {GrammarSpec{kind, std::move(text)}, fields_.full_name(name)};
  }
  void schema(std::string_view name, const Json& value) {
    // A schema may come as its own text.
    if (value.is_string()) return set(name, Kind::kJsonSchema, value.get_ref<const std::string&>());
    if (!value.is_object() && !value.is_boolean()) return fields_.refuse(name, "must be a JSON Schema");
    set(name, Kind::kJsonSchema, value.dump());
  }
  void text(std::string_view name, const Json& value, Kind kind) {
    if (!value.is_string() || value == "") return fields_.refuse(name, "must be a string, not empty");
    set(name, kind, value.get_ref<const std::string&>());
  }
  void choice(std::string_view name, const Json& value) {
    if (!value.is_array() || value.empty() || static_cast<int64_t>(value.size()) > kMaxChoices) {
      return fields_.refuse(name, cat("must be a list of at most ", kMaxChoices, " strings, not empty"));
    }
    for (const Json& one : value) {
      if (!one.is_string() || one == "") return fields_.refuse(name, "must hold strings, not empty");
    }
    set(name, Kind::kChoice, value.dump());
  }
  // An object, or its own text.
  void structural_tag(std::string_view name, const Json& value) {
    if (value.is_string()) return set(name, Kind::kStructuralTag, value.get_ref<const std::string&>());
    if (!value.is_object()) return fields_.refuse(name, "must be an object");
    set(name, Kind::kStructuralTag, value.dump());
  }

 private:
  Fields& fields_;
  AnswerForm& out_;
};

void read_response_format(Fields& fields, FormReader& reader) {
  const Json* format = asked(fields, "response_format");
  if (format == nullptr) return;
  if (!format->is_object()) return fields.refuse("response_format", "must be an object");
  Fields inner(*format, "response_format");
  std::string type;
  inner.read("type", type);
  if (type == "json_object") {
    reader.set("response_format", Kind::kJsonSchema, R"({"type":"object"})");
  } else if (type == "json_schema") {
    const Json* named = inner.get("json_schema");
    if (named == nullptr || !named->is_object() || !named->contains("schema")) {
      inner.refuse("json_schema", "must be an object with a schema");
    } else {
      reader.schema("response_format", (*named)["schema"]);
    }
  } else if (type == "structural_tag") {
    reader.structural_tag("response_format", *format);
  } else if (type != "text") {
    inner.refuse("type", "must be text, json_object, json_schema or structural_tag");
  }
  fields.fail(inner.status());
}

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

// An object's schema that stands for itself, not for a definition.
Json of_object(Json plain) {
  for (int hops = 0; plain.contains("$ref") && hops < 16; ++hops) {
    Json target = plain["$defs"][plain["$ref"].get_ref<const std::string&>().substr(8)];
    target["$defs"] = std::move(plain["$defs"]);
    plain = std::move(target);
  }
  return plain;
}

void read_tool(Fields& list, const Json& value, const std::string& path, std::vector<Tool>& out) {
  if (!value.is_object()) return list.refuse(path, "must be an object");
  Fields tool(value, path);
  std::string type = "function", name;
  tool.read("type", type);
  if (type != "function") tool.refuse("type", "must be function");
  const Json* function = tool.get("function");
  if (tool.ok() && (function == nullptr || !function->is_object())) tool.refuse("function", "must be an object");
  if (!tool.ok()) return list.fail(tool.status());
  Fields inner(*function, path + ".function");
  bool strict = false;
  inner.read("name", name);
  inner.read("strict", strict);
  if (inner.ok() && !is_function_name(name)) {
    inner.refuse("name", cat("must be 1 to ", kMaxNameBytes, " letters, digits, underscores, hyphens or dots"));
  }
  if (std::ranges::any_of(out, [&](const Tool& one) { return one.name == name; })) {
    inner.refuse("name", "is the name of two tools");
  }
  const Json* parameters = inner.get("parameters");
  static const Json kNone{{"type", "object"}, {"properties", Json::object()}};
  if (parameters == nullptr || parameters->empty()) parameters = &kNone;
  auto plain = plain_schema(*parameters);
  if (plain.ok()) plain = of_object(std::move(plain).value());
  if (plain.ok() && (!plain->contains("type") || (*plain)["type"] != "object")) {
    inner.refuse("parameters", "must be the schema of an object");
  }
  // Without `strict` a tool's schema is a wish; with it, it is kept or refused.
  if (!plain.ok() && strict) inner.refuse("parameters", cat("is refused: ", plain.status().message()));
  if (!inner.ok()) return list.fail(inner.status());
  if (!plain.ok()) plain = of_object(schema_that_can_be_kept(*parameters));
  if (!plain->contains("type") || (*plain)["type"] != "object") plain = Json{{"type", "object"}};
  out.push_back({std::move(name), std::move(plain).value()});
}

// Only the named ones may be called.
void keep(Fields& fields, const std::vector<std::string>& names, std::vector<Tool>& tools) {
  for (const std::string& name : names) {
    if (std::ranges::none_of(tools, [&](const Tool& tool) { return tool.name == name; })) {
      return fields.refuse("tool_choice", "names a function that is not among the tools");
    }
  }
  std::erase_if(tools, [&](const Tool& tool) { return std::ranges::find(names, tool.name) == names.end(); });
}

// {"type": "function", "function": {"name": ..}}; null where it is something else.
const Json* named_function(const Json& value) {
  if (!value.is_object() || !value.contains("function") || !value["function"].is_object()) return nullptr;
  const Json& function = value["function"];
  return function.contains("name") && function["name"].is_string() ? &function["name"] : nullptr;
}

void read_tool_choice(Fields& fields, ToolsRequest& out) {
  const Json* choice = asked(fields, "tool_choice");
  if (choice == nullptr || *choice == "auto") {
    out.choice = ToolChoice::kAuto;
  } else if (*choice == "none") {
    out.choice = ToolChoice::kNone;
  } else if (*choice == "required") {
    out.choice = ToolChoice::kRequired;
  } else if (const Json* name = named_function(*choice)) {
    out.choice = ToolChoice::kRequired;
    out.parallel = false;
    keep(fields, {*name}, out.tools);
  } else if (choice->is_object() && choice->contains("allowed_tools") && (*choice)["allowed_tools"].is_object()) {
    Fields allowed((*choice)["allowed_tools"], "tool_choice.allowed_tools");
    std::string mode = "auto";
    allowed.read("mode", mode);
    if (mode != "auto" && mode != "required") allowed.refuse("mode", "must be auto or required");
    const Json* tools = allowed.get("tools");
    std::vector<std::string> names;
    if (tools == nullptr || !tools->is_array() || tools->empty()) {
      allowed.refuse("tools", "must be a list of functions, not empty");
    } else {
      for (const Json& tool : *tools) {
        const Json* name = named_function(tool);
        if (name == nullptr) allowed.refuse("tools", "must be a list of functions, not empty");
        if (name != nullptr) names.push_back(*name);
      }
    }
    if (!allowed.ok()) return fields.fail(allowed.status());
    out.choice = mode == "auto" ? ToolChoice::kAuto : ToolChoice::kRequired;
    keep(fields, names, out.tools);
  } else {
    fields.refuse("tool_choice", "must be none, auto, required or a function");
  }
}

}  // namespace

void read_answer_form(Fields& fields, AnswerForm& out) {
  FormReader reader(fields, out);
  read_response_format(fields, reader);
  const auto read = [&](Fields& from, std::string_view json, std::string_view regex, std::string_view choice,
                        std::string_view grammar) {
    FormReader inner(from, out);
    if (const Json* value = asked(from, json)) inner.schema(json, *value);
    if (const Json* value = asked(from, regex)) inner.text(regex, *value, Kind::kRegex);
    if (const Json* value = asked(from, choice)) inner.choice(choice, *value);
    if (const Json* value = asked(from, grammar)) inner.text(grammar, *value, Kind::kEbnf);
  };
  read(fields, "guided_json", "guided_regex", "guided_choice", "guided_grammar");
  const Json* structured = asked(fields, "structured_outputs");
  if (structured == nullptr) return;
  if (!structured->is_object()) return fields.refuse("structured_outputs", "must be an object");
  Fields inner(*structured, "structured_outputs");
  read(inner, "json", "regex", "choice", "grammar");
  bool json_object = false;
  inner.read("json_object", json_object);
  if (json_object) FormReader(inner, out).set("json_object", Kind::kJsonSchema, R"({"type":"object"})");
  if (const Json* tag = asked(inner, "structural_tag")) FormReader(inner, out).structural_tag("structural_tag", *tag);
  if (asked(inner, "whitespace_pattern") != nullptr) inner.refuse("whitespace_pattern", "is not supported");
  fields.fail(inner.status());
}

void read_tools(Fields& fields, ToolsRequest& out) {
  const Json* tools = asked(fields, "tools");
  if (tools == nullptr) {
    const Json* choice = asked(fields, "tool_choice");
    if (choice != nullptr && *choice != "none" && *choice != "auto") fields.refuse("tool_choice", "needs tools");
    return;
  }
  if (!tools->is_array() || static_cast<int64_t>(tools->size()) > kMaxTools) {
    return fields.refuse("tools", cat("must be a list of at most ", kMaxTools, " tools"));
  }
  for (size_t i = 0; i < tools->size() && fields.ok(); ++i)
    read_tool(fields, (*tools)[i], cat("tools[", i, "]"), out.tools);
  read_tool_choice(fields, out);
  bool parallel = true;
  fields.read("parallel_tool_calls", parallel);
  out.parallel = out.parallel && parallel;
  if (out.choice != ToolChoice::kNone) out.listed = *tools;
}

void refuse_chat_fields(Fields& fields) {
  const Json* choice = fields.get("tool_choice");
  for (const std::string_view name :
       {"tools", "tool_choice", "response_format", "reasoning_effort", "thinking_token_budget"}) {
    const Json* value = asked(fields, name);
    if (value == nullptr || *value == "none" || *value == "auto" || *value == Json{{"type", "text"}}) continue;
    if (name == "tools" && choice != nullptr && *choice == "none") continue;
    fields.refuse(name, "is supported by /v1/chat/completions only");
  }
}

void read_reasoning(Fields& fields, ReasoningRequest& out) {
  fields.read("reasoning_effort", out.effort);
  constexpr std::string_view kEfforts[] = {"", "none", "minimal", "low", "medium", "high", "xhigh"};
  if (std::ranges::find(kEfforts, out.effort) == std::end(kEfforts)) {
    fields.refuse("reasoning_effort", "must be none, minimal, low, medium, high or xhigh");
  }
  fields.read("include_reasoning", out.include);
  if (fields.get("thinking_token_budget") == nullptr) return;
  int64_t budget = 0;
  fields.read("thinking_token_budget", budget, 0, 1 << 30);
  out.budget = budget;
}

}  // namespace hearth
