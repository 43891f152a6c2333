// What a server says of itself under /get_server_info and /get_model_info: JSON with SGLang's names, where it has one.
#pragma once

#include <string>

#include "cli/load_engine.h"

namespace hearth {

std::string server_info(const LoadedEngine& loaded, const std::string& name);
std::string model_info(const LoadedEngine& loaded, const std::string& name);

}  // namespace hearth
