// From the formats' literals to rules.
#include "formats/answer_grammar.h"

#include <algorithm>

#include "grammar/answer_form.h"
#include "grammar/ebnf_writer.h"
#include "grammar/schema_grammar.h"

namespace hearth {
namespace {

std::string trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(" \n"), text.size());
  const size_t end = text.find_last_not_of(" \n");
  return std::string(text.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin));
}

class Writer {
 public:
  explicit Writer(const AnswerRules& rules) : rules_(rules) {}

  Result<std::optional<GrammarSpec>> write() {
    const bool calls = rules_.choice != ToolChoice::kNone && !rules_.tools.empty();
    const bool budget =
        rules_.reasoning_budget && (rules_.format.harmony || (rules_.format.reasoning && rules_.may_reason));
    if (!calls && !rules_.content && !budget) return std::optional<GrammarSpec>();
    if (calls && !rules_.format.harmony && rules_.format.calls == nullptr) {
      return unimplemented(
                 "the model's chat template has no tool calls that are known here; --tool-call-parser names a format")
          .with_param("tools");
    }
    const bool reasons = rules_.format.harmony || (rules_.format.reasoning != nullptr && rules_.may_reason);
    if (!calls && !reasons) return std::optional(*rules_.content);  // as it is
    std::string content;
    if (rules_.content) {
      HEARTH_ASSIGN(content, write_form(w_, *rules_.content));
    }
    Result<std::string> root = rules_.format.harmony ? harmony(calls, content) : marked(calls, content);
    if (!root.ok()) return root.status();
    return std::optional(GrammarSpec{GrammarSpec::Kind::kOwnEbnf, w_.grammar(*root)});
  }

 private:
  std::string element(std::string_view literal) const {
    std::string out;
    for (const LiteralPart& part : literal_parts(literal, rules_.control_token)) {
      out += cat(out.empty() ? "" : " ", part.token ? cat("Token(", *part.token, ")") : EbnfWriter::literal(part.text));
    }
    return out.empty() ? "\"\"" : out;
  }

  // Free text that does not have any of the markers, and no control tokens; where a marker is one, it ends the text
  // too.
  std::string text_without(std::initializer_list<std::string_view> markers, std::string_view options = {}) {
    std::vector<std::string> texts;
    for (const std::string_view marker : markers) {
      if (!control(marker)) texts.emplace_back(marker);
    }
    return free_text(w_, texts, options);
  }
  bool control(std::string_view literal) const {
    return rules_.control_token && rules_.control_token(literal).has_value();
  }
  std::string budget() const {
    return rules_.reasoning_budget ? cat("max_tokens=", std::max<int64_t>(*rules_.reasoning_budget, 1)) : std::string();
  }

  Result<std::string> marked(bool calls, const std::string& content) {
    std::string thought;
    const ReasoningFormat* reasoning = rules_.may_reason ? rules_.format.reasoning : nullptr;
    if (reasoning != nullptr) {
      const bool none = rules_.reasoning_budget == 0;
      thought = none ? cat("\"\\n\"? ", element(reasoning->end))
                     : cat(text_without({reasoning->end}, budget()), " ", element(reasoning->end));
      thought = w_.rule(cat(thought, " \"\\n\"{0,2}"));
      if (!rules_.in_reasoning) thought = w_.rule(cat("(", element(reasoning->begin), " ", thought, ")?"));
    }
    std::string rest;
    if (calls) {
      HEARTH_ASSIGN(rest, calls_or(content));
    } else if (!content.empty()) {
      rest = content;
    } else {
      rest = text_without({reasoning == nullptr ? "" : reasoning->begin});
    }
    return w_.rule(cat(thought, " ", rest));
  }

  // Tool calls, or, where none is required, the content or, without a form of it, text with calls in it.
  Result<std::string> calls_or(const std::string& content) {
    const CallFormat& format = *rules_.format.calls;
    std::string any;  // behind `begin`
    for (const Tool& tool : rules_.tools) {
      HEARTH_ASSIGN(const std::string arguments, arguments_of(tool));
      any += cat(any.empty() ? "" : " | ",
                 w_.rule(cat(element(cat(tool.name, format.middle)), " ", arguments, " ", element(format.end))));
    }
    any = w_.rule(any);
    const std::string call = w_.rule(cat(element(format.begin), " ", any));
    const std::string more = rules_.parallel ? cat("(", element(format.separator), " ", call, ")*") : "\"\"";
    const std::string section =
        w_.rule(cat(element(format.section_begin), " ", call, " ", more, " ", element(format.section_end)));
    if (rules_.choice == ToolChoice::kRequired) return section;
    if (!content.empty()) return w_.rule(cat(section, " | ", content));
    if (format.only_at_start) {
      return w_.rule(cat(section, " | [^{ \\n\\t\\r] ", text_without({}), " | \"\""));
    }
    // Text until what calls begin with comes; the rest of the literal is forced then.
    const bool sectioned = !format.section_begin.empty();
    const auto parts = literal_parts(sectioned ? format.section_begin : format.begin, rules_.control_token);
    const size_t length = parts[0].token ? parts[0].text.size()
                                         : std::min(parts[0].text.find_first_of(">]"), parts[0].text.size() - 1) + 1;
    std::string rest = EbnfWriter::literal(parts[0].text.substr(length));
    for (size_t i = 1; i < parts.size(); ++i) {
      rest += cat(" ", parts[i].token ? cat("Token(", *parts[i].token, ")") : EbnfWriter::literal(parts[i].text));
    }
    rest = sectioned ? w_.rule(cat(rest, " ", call, " ", more, " ", element(format.section_end)))
                     : w_.rule(cat(rest, " ", any));
    const std::string loop = cat("loop_after_dispatch=", rules_.parallel && !sectioned);
    std::string excludes;
    if (rules_.format.reasoning != nullptr && !control(rules_.format.reasoning->begin)) {
      excludes = cat(", excludes=(", EbnfWriter::literal(rules_.format.reasoning->begin), ",)");
    }
    if (parts[0].token) return w_.rule(cat("TokenTagDispatch((", *parts[0].token, ", ", rest, "), ", loop, ")"));
    return w_.rule(cat("TagDispatch((", EbnfWriter::literal(parts[0].text.substr(0, length)), ", ", rest, "), ", loop,
                       excludes, ")"));
  }

  Result<std::string> arguments_of(const Tool& tool) {
    const auto& parameters = rules_.format.harmony ? std::nullopt : rules_.format.calls->parameters;
    if (!parameters) return write_schema(w_, tool.parameters);
    std::string out;
    const Json required = tool.parameters.value("required", Json::array());
    const Json properties = tool.parameters.value("properties", Json::object());
    for (const auto& [name, schema] : properties.items()) {
      HEARTH_ASSIGN(const std::string value, value_of(schema, tool.parameters, *parameters));
      const std::string one = w_.rule(
          cat(element(cat(parameters->begin, name, parameters->middle)), " ", value, " ", element(parameters->end)));
      const bool needed = std::find(required.begin(), required.end(), Json(name)) != required.end();
      out += cat(out.empty() ? "" : " ", one, needed ? "" : "?");
    }
    return out.empty() ? "\"\"" : w_.rule(out);
  }

  Result<std::string> value_of(const Json& schema, const Json& parameters, const CallFormat::Parameters& format) {
    if (value_style(schema) == ValueStyle::kJson) {
      Json whole = schema;
      if (parameters.contains("$defs")) whole["$defs"] = parameters["$defs"];
      return write_schema(w_, whole);
    }
    std::string out;
    if (schema.contains("enum")) {
      for (const Json& value : schema["enum"]) {
        out += cat(out.empty() ? "" : " | ", EbnfWriter::literal(value.get_ref<const std::string&>()));
      }
      return w_.rule(out);
    }
    if (schema.contains("format")) {
      HEARTH_ASSIGN(out, format_element(schema["format"].get_ref<const std::string&>()));
      return w_.rule(out);
    }
    return text_without({trimmed(format.end)});
  }

  // Analysis and remarks, then the answer or a call, which is the end.
  Result<std::string> harmony(bool calls, const std::string& content) {
    for (const std::string_view name : {"<|channel|>", "<|message|>", "<|end|>", "<|start|>"}) {
      if (!control(name)) return unimplemented("the model's vocabulary has no ", name).with_param("tools");
    }
    const std::string text = text_without({});
    const std::string next = element("<|end|><|start|>assistant");
    const auto message = [&](std::string_view channel, const std::string& body) {
      return cat(element(cat("<|channel|>", channel, "<|message|>")), " ", body);
    };
    const bool none = rules_.reasoning_budget == 0;
    const std::string analysis = w_.rule(cat(message("analysis", text_without({}, budget())), " ", next));
    const std::string remark = w_.rule(cat(message("commentary", text), " ", next));
    std::string last;
    if (calls) {
      std::string any;
      for (const Tool& tool : rules_.tools) {
        HEARTH_ASSIGN(const std::string arguments, write_schema(w_, tool.parameters));
        any += cat(any.empty() ? "" : " | ", EbnfWriter::literal(tool.name), " ",
                   element(" <|constrain|>json<|message|>"), " ", arguments);
      }
      last = cat(element("<|channel|>commentary to=functions."), " ", w_.rule(any));
    }
    if (rules_.choice != ToolChoice::kRequired || !calls) {
      last += cat(last.empty() ? "" : " | ", message("final", content.empty() ? text : content));
    }
    // Remarks are shown as text: none where a call is required, or the text has a form.
    const bool remarks = rules_.choice != ToolChoice::kRequired && content.empty();
    const std::string before = none ? "" : cat("(", analysis, remarks ? " | " + remark : "", ")*");
    return w_.rule(cat(before, " ", w_.rule(last)));
  }

  const AnswerRules& rules_;
  EbnfWriter w_;
};

}  // namespace

Result<std::optional<GrammarSpec>> answer_grammar(const AnswerRules& rules) { return Writer(rules).write(); }

}  // namespace hearth
