// Tokens to text while they are being generated: only whole characters leave, and text that may become a stop string
// waits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace hearth {

// All pieces that push() and finish() return, joined, are decode() of the tokens.
class IncrementalDetokenizer {
 public:
  struct Options {
    bool skip_special = true;
    bool at_start = true;  // false: the tokens continue a text, so the first one's leading space stays
  };
  IncrementalDetokenizer(const Tokenizer& tokenizer, Options options);

  // The valid UTF-8 that this token completes, perhaps none.
  std::string push(int32_t token);
  bool inside_character() const { return !pending_.empty(); }
  // What was left of an unfinished character, as U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  const Options options_;
  bool at_first_byte_;
  std::string pending_;  // the beginning of a character
};

// Finds the first of several stop strings in a text that arrives in pieces. Text is held back only while it may be the
// beginning of one. Linear in the text times the number of stop strings.
class StopMatcher {
 public:
  // Empty strings never match. With `hidden`, the control tokens of that tokenizer show no text: a stop string that
  // names some matches where they stand between the letters.
  explicit StopMatcher(const std::vector<std::string>& stops, const Tokenizer* hidden = nullptr);

  struct Text {
    std::string text;      // safe to send
    bool stopped = false;  // a stop string was found; text ends before it
    size_t stop = 0;       // which one
  };
  // After a stop was found nothing more comes out.
  Text push(std::string_view piece);
  // A hidden control token came.
  Text push_hidden(int32_t token);
  // The generation ended: what was held back.
  std::string finish();

 private:
  // One stop string as a Knuth-Morris-Pratt automaton over symbols: a byte, or a hidden token.
  struct Pattern {
    size_t stop;  // which one
    size_t bytes;
    std::vector<int32_t> symbols;
    std::vector<size_t> borders;  // of each prefix: its longest proper prefix that is also its suffix
    std::vector<size_t> shown;    // of each prefix: how many of its symbols are bytes
    bool has_hidden = false;      // else hidden tokens are passed over
    size_t matched = 0;

    void step(int32_t symbol);
  };
  void add(size_t stop, size_t bytes, std::vector<int32_t> symbols);
  Text stop_at(const Pattern& found, size_t end);
  // What no stop string can begin in.
  Text send();

  std::vector<Pattern> patterns_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace hearth
