// The version, as `hearth version` and GET /version say it; project() in CMakeLists.txt says it once.
#pragma once

#include <string_view>

namespace hearth {
std::string_view version();
}  // namespace hearth
