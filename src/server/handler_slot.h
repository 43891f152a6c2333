// HandlerSlot: memory for one handler that is posted again and again, at most once at a time, so that a post from any
// thread neither allocates nor fails. Posts with a SlotAllocator take it.
#pragma once

#include <cstddef>

#include "base/check.h"

namespace hearth {

class HandlerSlot {
 public:
  void* take(size_t bytes) {
    HEARTH_CHECK(bytes <= sizeof bytes_ && !taken_);
    taken_ = true;
    return bytes_;
  }
  void give_back() { taken_ = false; }

 private:
  alignas(std::max_align_t) std::byte bytes_[256];
  bool taken_ = false;
};

template <typename T>
class SlotAllocator {
 public:
  using value_type = T;
  explicit SlotAllocator(HandlerSlot& slot) : slot_(&slot) {}
  template <typename U>
  SlotAllocator(const SlotAllocator<U>& other) : slot_(other.slot_) {}

  T* allocate(size_t count) { return static_cast<T*>(slot_->take(count * sizeof(T))); }
  void deallocate(T*, size_t) { slot_->give_back(); }
  bool operator==(const SlotAllocator&) const = default;

 private:
  template <typename U>
  friend class SlotAllocator;
  HandlerSlot* slot_;
};

}  // namespace hearth
