// Prefix index: candidates by hash, then the whole key compared.
#include "kv/prefix_index.h"

#include <algorithm>
#include <functional>

#include "base/check.h"

namespace hearth {
namespace {

constexpr PrefixIndex::Link kSalted = PrefixIndex::Link{1} << 63;  // links count up from 1 and do not get there

}  // namespace

PrefixIndex::PrefixIndex(int64_t num_blocks, int64_t block_size, PrefixMode mode, KvEventSink* events)
    : block_size_(block_size), mode_(mode), entries_(num_blocks), tokens_(num_blocks * block_size), events_(events) {
  by_hash_.reserve(num_blocks);
}

PrefixIndex::Link PrefixIndex::root_of(std::string_view salt) {
  return salt.empty() ? kRoot : kSalted | std::hash<std::string_view>{}(salt);
}

std::span<const int32_t> PrefixIndex::tokens_of(int32_t block) const {
  return std::span(tokens_).subspan(block * block_size_, block_size_);
}

uint64_t PrefixIndex::hash(Link before, std::span<const int32_t> tokens, int64_t count) const {
  // A multiply and a shift a token: a bijection of the state, so that no token is forgotten.
  uint64_t h = before * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(count);
  for (int32_t token : tokens) {
    h = (h ^ static_cast<uint32_t>(token)) * 0xFF51AFD7ED558CCDull;
    h ^= h >> 32;
  }
  return h;
}

std::optional<PrefixIndex::Hit> PrefixIndex::find(Link before, std::span<const int32_t> tokens,
                                                  int64_t prompt_tokens) const {
  HEARTH_CHECK(static_cast<int64_t>(tokens.size()) == block_size_);
  const int64_t count = key_count(prompt_tokens);
  const auto [begin, end] = by_hash_.equal_range(hash(before, tokens, count));
  for (auto it = begin; it != end; ++it) {
    const Entry& entry = entries_[it->second];
    if (entry.before == before && entry.prompt_tokens == count && std::ranges::equal(tokens_of(it->second), tokens)) {
      return Hit{it->second, entry.link};
    }
  }
  return std::nullopt;
}

int64_t PrefixIndex::cached(Link root, std::span<const int32_t> prompt) const {
  int64_t count = 0;
  for (; count + block_size_ <= static_cast<int64_t>(prompt.size()); count += block_size_) {
    std::lock_guard lock(mutex_);  // for a block: a long prompt holds nobody up
    const auto hit =
        find(root, prompt.subspan(static_cast<size_t>(count), static_cast<size_t>(block_size_)), block_size_);
    if (!hit) break;
    root = hit->link;
  }
  return count;
}

PrefixIndex::Link PrefixIndex::publish(int32_t block, Link before, std::span<const int32_t> tokens,
                                       int64_t prompt_tokens) {
  HEARTH_CHECK(!contains(block));
  if (const auto hit = find(before, tokens, prompt_tokens)) return hit->link;
  const int64_t count = key_count(prompt_tokens);
  {
    std::lock_guard lock(mutex_);
    entries_[block] = {++last_link_, before, count, hash(before, tokens, count)};
    std::ranges::copy(tokens, tokens_.begin() + block * block_size_);
    by_hash_.emplace(entries_[block].hash, block);
  }
  const bool of_a_prompt = mode_ == PrefixMode::kFast || count == block_size_;
  if (events_ != nullptr && of_a_prompt && (before == kRoot || told_.contains(before))) {
    told_.insert(last_link_);
    events_->stored(last_link_, before, tokens);
  }
  return last_link_;
}

void PrefixIndex::erase(int32_t block) {
  HEARTH_CHECK(contains(block));
  const auto [begin, end] = by_hash_.equal_range(entries_[block].hash);
  const auto it = std::find_if(begin, end, [&](const auto& item) { return item.second == block; });
  HEARTH_CHECK(it != end);
  std::lock_guard lock(mutex_);
  by_hash_.erase(it);
  if (events_ != nullptr && told_.erase(entries_[block].link) > 0) events_->removed(entries_[block].link);
  entries_[block] = {};
}

void PrefixIndex::check_integrity() const {
  size_t published = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const int32_t block = static_cast<int32_t>(i);
    if (!contains(block)) continue;
    ++published;
    const Entry& entry = entries_[i];
    HEARTH_CHECK((entry.before < entry.link || entry.before >= kSalted) && entry.link <= last_link_);
    const auto hit = find(entry.before, tokens_of(block), entry.prompt_tokens);
    HEARTH_CHECK(hit && hit->block == block);  // itself, so no key is there twice
  }
  HEARTH_CHECK(published == by_hash_.size());
}

}  // namespace hearth
