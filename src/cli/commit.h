// The commit that was built: figures that are kept say what they are of.
#pragma once

#include <string_view>

namespace hearth {

// Seven digits, "-dirty" behind them where files were changed; "unknown" outside a git repository.
std::string_view commit();

}  // namespace hearth
