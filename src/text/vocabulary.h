// What a GGUF vocabulary means where its file does not say.
#pragma once

#include <string_view>

namespace hearth {

// Whether a text begins with the bos token, as llama.cpp has it for this kind: files of Llama 3 and its kin do not say.
bool adds_bos_by_default(std::string_view model, std::string_view pre);

}  // namespace hearth
