// A list and an index.
#include "api/response_store.h"

namespace hearth {

void ResponseStore::add(const std::string& id, std::string messages) {
  std::lock_guard lock(mutex_);
  if (by_id_.contains(id)) return;
  bytes_ += messages.size();
  entries_.push_front({id, std::move(messages)});
  by_id_[id] = entries_.begin();
  while (!entries_.empty() && (bytes_ > max_bytes_ || entries_.size() > max_count_)) {
    bytes_ -= entries_.back().messages.size();
    by_id_.erase(entries_.back().id);
    entries_.pop_back();
  }
}

std::optional<std::string> ResponseStore::find(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return std::nullopt;
  return it->second->messages;
}

}  // namespace hearth
