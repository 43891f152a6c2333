// The last warning of xgrammar on this thread; never shown, since it may hold the user's bytes.
#pragma once

#include <string>

namespace hearth {
std::string& xgrammar_warning();
}  // namespace hearth
