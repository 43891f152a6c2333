// What JSON Schema's string formats look like, as regular expressions over JSON strings' characters.
#pragma once

#include <string_view>

namespace hearth {

// Every match is of the format as its RFC says it; not everything of the format matches. Empty: not known.
std::string_view format_regex(std::string_view format);

}  // namespace hearth
