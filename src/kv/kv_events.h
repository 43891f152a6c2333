// What a prefix index tells of its blocks, for routers that send a prompt to the server that has its beginning cached.
#pragma once

#include <cstdint>
#include <span>

namespace hearth {

class KvEventSink {
 public:
  virtual ~KvEventSink() = default;
  // A prompt that begins with the tokens of `before` (0: nothing) and then `tokens` finds them cached from now on.
  // `link` names the block until removed(link), and no other block ever.
  virtual void stored(uint64_t link, uint64_t before, std::span<const int32_t> tokens) = 0;
  virtual void removed(uint64_t link) = 0;
  // A step has ended: what came since the last flush belongs together.
  virtual void flush() = 0;
};

}  // namespace hearth
