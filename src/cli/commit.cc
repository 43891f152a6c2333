// In a file of its own, so that a new commit compiles one file.
#include "cli/commit.h"

namespace hearth {
std::string_view commit() {
  return
#include "commit.inc"
      ;
}
}  // namespace hearth
