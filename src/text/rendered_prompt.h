// What a chat template renders: the text, and which of its bytes came from the request and so name no control token.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace hearth {

struct ByteRange {
  size_t begin, end;
};

struct RenderedPrompt {
  std::string text;
  std::vector<ByteRange> from_request;  // in order, disjoint, none empty
};

}  // namespace hearth
