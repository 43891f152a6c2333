// The version, as `hearth version` and GET /version say it; CMake's project() says it once.
#pragma once

#include <string_view>

namespace hearth {
inline constexpr std::string_view kVersion = HEARTH_VERSION;
}  // namespace hearth
