// HEARTH_EMBED(name, "path"): makes the file's bytes, as they are at build time, part of the binary as
// embedded::name(). At namespace scope of a source file; its list of dependencies in CMakeLists.txt names the file.
#pragma once

#include <string_view>

#define HEARTH_EMBED(name, path)                                                                    \
  asm(".pushsection .rodata\n"                                                                      \
      ".balign 16\n"                                                                                \
      "hearth_embedded_" #name ": .incbin \"" path                                                  \
      "\"\n"                                                                                        \
      "hearth_embedded_" #name                                                                      \
      "_end: .byte 0\n"                                                                             \
      ".popsection\n");                                                                             \
  extern "C" const char hearth_embedded_##name[];                                                   \
  extern "C" const char hearth_embedded_##name##_end[];                                             \
  namespace hearth::embedded {                                                                      \
  inline std::string_view name() { return {hearth_embedded_##name, hearth_embedded_##name##_end}; } \
  }
