// Constraint: what may come next in one sequence, as a mask of the vocabulary. It has one owner and one thread at a
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hearth {

class Constraint {
 public:
  virtual ~Constraint() = default;

  // i32 words of a mask; token t is bit t % 32 of word t / 32.
  static int64_t mask_words(int64_t vocab_size) { return (vocab_size + 31) / 32; }

  // Sets the bits of the tokens that may come next, end tokens among them where the text may end. False: any token may
  // come, and `mask` is not to be read.
  virtual bool fill_mask(std::span<int32_t> mask) = 0;

  // One more token of the sequence. False: it was not allowed, and nothing changed.
  virtual bool accept(int32_t token) = 0;

  // Tokens that stand for the only text that can follow, so that no model need be asked; they are accepted. Mostly
  // none.
  virtual std::vector<int32_t> jump_ahead() = 0;
};

// A compiled grammar, shared by all requests that have it; from any thread.
class Grammar {
 public:
  virtual ~Grammar() = default;
  // A constraint at the beginning of a text.
  virtual std::unique_ptr<Constraint> start() const = 0;
  // Whether an end token ends the text wherever the grammar allows one, or that is for the request to say.
  virtual bool says_where_to_end() const { return true; }
  // Whether it may come to a point where nothing may follow: that is the request's fault then.
  virtual bool may_run_dry() const { return false; }
  virtual int64_t bytes() const = 0;
};

}  // namespace hearth
