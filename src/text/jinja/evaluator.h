// Renders a parsed template.
#pragma once

#include <cstddef>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace hearth::jinja {

// Check context.failed() afterwards.
MarkedString evaluate(Context& context, const Template& source, const Dict& variables, size_t max_output);

}  // namespace hearth::jinja
