// The built-in page at /: chat, facts and live plots in one file without anything from elsewhere (page.html).
#pragma once

#include <string_view>

namespace hearth {

std::string_view built_in_page();

}  // namespace hearth
