// Which stop wins: the one that is complete first, and of several complete at the same character the longest.
#include "text/detokenizer.h"

#include <algorithm>

#include "text/utf8.h"

namespace hearth {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer, Options options)
    : tokenizer_(tokenizer), options_(options), at_first_byte_(options.at_start && tokenizer.strips_leading_space()) {}

std::string IncrementalDetokenizer::push(int32_t token) {
  if (options_.skip_special && tokenizer_.is_special(token)) return {};
  std::string_view bytes = tokenizer_.token_bytes(token);
  if (bytes.empty()) return {};
  if (std::exchange(at_first_byte_, false) && bytes.starts_with(' ')) bytes.remove_prefix(1);
  pending_.append(bytes);
  // Only the last three bytes can be the beginning of a character.
  size_t complete = pending_.size();
  for (size_t back = 1; back <= std::min<size_t>(3, pending_.size()); ++back) {
    const size_t at = pending_.size() - back;
    if ((pending_[at] & 0xC0) == 0x80) continue;
    if (read_utf8(pending_, at).truncated) complete = at;
    break;
  }
  std::string text = replace_broken_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string IncrementalDetokenizer::finish() { return replace_broken_utf8(std::exchange(pending_, {})); }

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    Pattern pattern{.text = std::move(stop)};
    pattern.borders.assign(pattern.text.size() + 1, 0);
    for (size_t i = 1, border = 0; i < pattern.text.size(); ++i) {
      while (border > 0 && pattern.text[i] != pattern.text[border]) border = pattern.borders[border];
      if (pattern.text[i] == pattern.text[border]) ++border;
      pattern.borders[i + 1] = border;
    }
    patterns_.push_back(std::move(pattern));
  }
}

StopMatcher::Text StopMatcher::push(std::string_view piece) {
  if (stopped_) return {.stopped = true};
  const size_t before = held_.size();
  held_.append(piece);
  for (size_t i = before; i < held_.size(); ++i) {
    const Pattern* found = nullptr;
    for (Pattern& pattern : patterns_) {
      if (pattern.text.empty()) continue;
      while (pattern.matched > 0 && pattern.text[pattern.matched] != held_[i]) {
        pattern.matched = pattern.borders[pattern.matched];
      }
      if (pattern.text[pattern.matched] == held_[i]) ++pattern.matched;
      if (pattern.matched == pattern.text.size() && (!found || pattern.text.size() > found->text.size()))
        found = &pattern;
    }
    if (found != nullptr) {
      stopped_ = true;
      const size_t end = i + 1 - found->text.size();
      return {held_.substr(0, end), true, static_cast<size_t>(found - patterns_.data())};
    }
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max(keep, pattern.matched);
  // Sent text stays whole characters, even where a stop string begins inside one.
  size_t send = held_.size() - keep;
  while (send > 0 && send < held_.size() && (held_[send] & 0xC0) == 0x80) --send;
  Text out{held_.substr(0, send)};
  held_.erase(0, send);
  return out;
}

std::string StopMatcher::finish() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace hearth
