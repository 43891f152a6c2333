// Template source to tokens, with Jinja's white space rules as transformers sets them (trim_blocks, lstrip_blocks).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace hearth::jinja {

struct Token {
  enum class Kind {
    kData,
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kReal,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  std::string text;  // a string's value, an operator's or a name's spelling
  int64_t integer = 0;
  double real = 0;
  int line = 1;
};

Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace hearth::jinja
