// Python's two ways to put values into a text: '%s' % x and '{}'.format(x).
#pragma once

#include "text/jinja/value.h"

namespace hearth::jinja {

// '%' with a tuple of values, a dictionary, or one value.
MarkedString format_percent(Context& context, const MarkedString& pattern, const Value& values);
// str.format.
MarkedString format_fields(Context& context, const MarkedString& pattern, const Arguments& values);

}  // namespace hearth::jinja
