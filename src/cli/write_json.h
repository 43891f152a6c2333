// Figures into a file, for scripts that read them.
#pragma once

#include <string>

#include "base/json.h"

namespace hearth {

Status write_json(const std::string& path, const Json& value);

}  // namespace hearth
