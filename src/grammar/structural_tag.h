// Structural tags: text in which tags with a content of a given form stand, as xgrammar and vLLM spell it
// (https://xgrammar.mlc.ai/docs/tutorials/structural_tag.html).
#pragma once

#include "base/json.h"
#include "grammar/ebnf_writer.h"

namespace hearth {

// Both spellings: {"format": {..}}, and the older {"structures": [{"begin", "schema", "end"}], "triggers": [..]}.
Result<std::string> write_structural_tag(EbnfWriter& writer, const Json& tag);

}  // namespace hearth
