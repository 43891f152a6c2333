// One case a kind.
#include "grammar/answer_form.h"

#include <nlohmann/json.hpp>

#include "grammar/ebnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex_to_ebnf.h"
#include "grammar/schema_grammar.h"
#include "grammar/structural_tag.h"

namespace hearth {

Result<std::string> write_form(EbnfWriter& writer, const GrammarSpec& spec) {
  switch (spec.kind) {
    case GrammarSpec::Kind::kJsonSchema: {
      HEARTH_ASSIGN(const Json schema, parse_json(spec.text, {.root_must_be_object = false}));
      HEARTH_ASSIGN(const Json plain, plain_schema(schema));
      return write_schema(writer, plain);
    }
    case GrammarSpec::Kind::kRegex: {
      HEARTH_ASSIGN(const std::string element, regex_to_ebnf(spec.text));
      return writer.rule(element);
    }
    case GrammarSpec::Kind::kChoice: {
      HEARTH_ASSIGN(const Json texts, parse_json(spec.text, {.root_must_be_object = false}));
      std::string body;
      for (const Json& text : texts) {
        body += cat(body.empty() ? "" : " | ", EbnfWriter::literal(text.get_ref<const std::string&>()));
      }
      return writer.rule(body);
    }
    case GrammarSpec::Kind::kEbnf: return write_ebnf(writer, spec.text);
    case GrammarSpec::Kind::kStructuralTag: {
      HEARTH_ASSIGN(const Json tag, parse_json(spec.text));
      return write_structural_tag(writer, tag);
    }
    case GrammarSpec::Kind::kOwnEbnf: break;
  }
  return internal_error("a form of an answer that there is not");
}

std::string free_text(EbnfWriter& writer, const std::vector<std::string>& without, std::string_view options) {
  std::string excludes;
  for (const std::string& one : without) {
    if (!one.empty()) excludes += cat(EbnfWriter::literal(one), ",");
  }
  if (excludes.empty()) return writer.rule("[^]*", options);
  return writer.rule(cat("TagDispatch(excludes=(", excludes, "))"), options);
}

}  // namespace hearth
