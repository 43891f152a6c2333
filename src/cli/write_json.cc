// One value a line, so that a change shows in a diff.
#include "cli/write_json.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace hearth {

Status write_json(const std::string& path, const Json& value) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  const bool written = file && std::fputs((value.dump(1) + "\n").c_str(), file) >= 0;
  return file && (std::fclose(file) == 0) && written ? Status() : invalid("cannot write ", path);
}

}  // namespace hearth
