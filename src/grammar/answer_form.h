// An answer's form, as a request says it, as rules of a grammar.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "grammar/ebnf_writer.h"
#include "grammar/grammar_spec.h"

namespace hearth {

// The element that an answer of this form is; its rules are written. Not of kOwnEbnf, which is a whole grammar.
Result<std::string> write_form(EbnfWriter& writer, const GrammarSpec& spec);

// Free text that has none of the markers. Those that are empty count for nothing.
std::string free_text(EbnfWriter& writer, const std::vector<std::string>& without, std::string_view options = {});

}  // namespace hearth
