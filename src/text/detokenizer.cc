// Which stop wins: the one that is complete first, and of several complete at the same character the longest.
#include "text/detokenizer.h"

#include <algorithm>

#include "text/utf8.h"

namespace hearth {
namespace {

constexpr int32_t kHidden = 256;  // and the token's id: above all bytes

}  // namespace

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

StopMatcher::StopMatcher(const std::vector<std::string>& stops, const Tokenizer* hidden) {
  for (size_t i = 0; i < stops.size(); ++i) {
    const std::string& text = stops[i];
    if (text.empty()) continue;
    const std::vector<int32_t> bytes(reinterpret_cast<const unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()) + text.size());
    add(i, text.size(), bytes);
    if (hidden == nullptr) continue;
    std::vector<int32_t> symbols;
    size_t at = 0;
    for (const auto& [begin, token] : hidden->find_special(text)) {
      symbols.insert(symbols.end(), bytes.begin() + at, bytes.begin() + begin);
      symbols.push_back(kHidden + token);
      at = begin + hidden->token_text(token).size();
    }
    symbols.insert(symbols.end(), bytes.begin() + at, bytes.end());
    if (symbols.size() != bytes.size() || symbols != bytes) add(i, text.size(), std::move(symbols));
  }
}

void StopMatcher::add(size_t stop, size_t bytes, std::vector<int32_t> symbols) {
  Pattern pattern{.stop = stop, .bytes = bytes, .symbols = std::move(symbols)};
  const size_t size = pattern.symbols.size();
  pattern.borders.assign(size + 1, 0);
  for (size_t i = 1, border = 0; i < size; ++i) {
    while (border > 0 && pattern.symbols[i] != pattern.symbols[border]) border = pattern.borders[border];
    if (pattern.symbols[i] == pattern.symbols[border]) ++border;
    pattern.borders[i + 1] = border;
  }
  pattern.shown.assign(size + 1, 0);
  for (size_t i = 0; i < size; ++i) pattern.shown[i + 1] = pattern.shown[i] + (pattern.symbols[i] < kHidden ? 1 : 0);
  pattern.has_hidden = pattern.shown.back() < size;
  patterns_.push_back(std::move(pattern));
}

void StopMatcher::Pattern::step(int32_t symbol) {
  while (matched > 0 && symbols[matched] != symbol) matched = borders[matched];
  if (symbols[matched] == symbol) ++matched;
}

StopMatcher::Text StopMatcher::push(std::string_view piece) {
  if (stopped_) return {.stopped = true};
  const size_t before = held_.size();
  held_.append(piece);
  for (size_t i = before; i < held_.size(); ++i) {
    const Pattern* found = nullptr;
    for (Pattern& pattern : patterns_) {
      pattern.step(static_cast<unsigned char>(held_[i]));
      if (pattern.matched == pattern.symbols.size() && (!found || pattern.bytes > found->bytes)) found = &pattern;
    }
    if (found != nullptr) return stop_at(*found, i + 1);
  }
  return send();
}

StopMatcher::Text StopMatcher::push_hidden(int32_t token) {
  if (stopped_) return {.stopped = true};
  const Pattern* found = nullptr;
  for (Pattern& pattern : patterns_) {
    if (!pattern.has_hidden) continue;
    pattern.step(kHidden + token);
    if (pattern.matched == pattern.symbols.size() && (!found || pattern.bytes > found->bytes)) found = &pattern;
  }
  return found == nullptr ? send() : stop_at(*found, held_.size());
}

StopMatcher::Text StopMatcher::stop_at(const Pattern& found, size_t end) {
  stopped_ = true;
  return {held_.substr(0, end - found.shown.back()), true, found.stop};
}

StopMatcher::Text StopMatcher::send() {
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max(keep, pattern.shown[pattern.matched]);
  // Sent text stays whole characters, even where a stop string begins inside one.
  size_t send = held_.size() - keep;
  while (send > 0 && send < held_.size() && (held_[send] & 0xC0) == 0x80) --send;
  Text out{held_.substr(0, send)};
  held_.erase(0, send);
  return out;
}

std::string StopMatcher::finish() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace hearth
