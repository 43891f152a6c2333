// ResponseStore: conversations by the id of their last response, for previous_response_id; bounded in number and bytes.
#pragma once

#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/json.h"

namespace hearth {

class ResponseStore {
 public:
  explicit ResponseStore(size_t max_bytes = size_t{64} << 20, size_t max_count = 4096)
      : max_bytes_(max_bytes), max_count_(max_count) {}

  // `messages`: JSON, in chat's words. The least recently added go first.
  void add(const std::string& id, std::string messages);
  std::optional<std::string> find(const std::string& id) const;

 private:
  struct Entry {
    std::string id, messages;
  };
  const size_t max_bytes_, max_count_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the newest first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_id_;
  size_t bytes_ = 0;
};

}  // namespace hearth
