// In a file of its own, so that a new version compiles one file.
#include "base/version.h"

namespace hearth {
std::string_view version() { return HEARTH_VERSION; }
}  // namespace hearth
