// A name out of a file, fit for one line of an error message.
#pragma once

#include <string>
#include <string_view>

namespace hearth {

// ASCII without control characters, at most 300 of them.
std::string printable(std::string_view name);

}  // namespace hearth
