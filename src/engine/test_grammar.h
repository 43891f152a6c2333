// A grammar for tests of the engine: which tokens may come is a hash of those that came. It changes with one token in
// `steadiness`.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "grammar/constraint.h"

namespace hearth {

class FakeConstraint final : public Constraint {
 public:
  FakeConstraint(uint64_t seed, int64_t vocab_size, std::vector<int32_t> ends, uint64_t steadiness)
      : steadiness_(steadiness), mask_state_(seed), state_(seed), vocab_size_(vocab_size), ends_(std::move(ends)) {}

  bool fill_mask(std::span<int32_t> mask) override {
    if (mask_state_ % 7 == 0) return false;
    std::ranges::fill(mask, 0);
    for (int32_t token = 0; token < vocab_size_; ++token) {
      if (allows(token)) mask[static_cast<size_t>(token / 32)] |= static_cast<int32_t>(1u << (token % 32));
    }
    return true;
  }
  bool allows(int32_t token) const {
    if (mask_state_ % 7 == 0) return true;
    if (std::ranges::find(ends_, token) != ends_.end()) return mask_state_ % 5 == 0;
    return hash(mask_state_, static_cast<uint64_t>(token)) % 3 == 0;
  }
  bool accept(int32_t token) override {
    if (!allows(token)) return false;
    go_on(static_cast<uint64_t>(token));
    return true;
  }
  std::vector<int32_t> jump_ahead() override {
    std::vector<int32_t> out;
    for (uint64_t i = state_ % 11 == 0 ? 1 + state_ % 4 : 0; i > 0; --i) {
      out.push_back(static_cast<int32_t>(hash(state_, i) % static_cast<uint64_t>(vocab_size_)));
      go_on(static_cast<uint64_t>(out.back()));
    }
    return out;
  }

 private:
  static uint64_t hash(uint64_t state, uint64_t value) {
    uint64_t x = (state ^ (value + 0x9E3779B97F4A7C15ull)) * 0xBF58476D1CE4E5B9ull;
    return (x ^ (x >> 29)) * 0x94D049BB133111EBull >> 7;
  }
  void go_on(uint64_t token) {
    state_ = hash(state_, token);
    if (state_ / 16 % steadiness_ == 0) mask_state_ = state_;
  }
  const uint64_t steadiness_;
  uint64_t mask_state_, state_;
  const int64_t vocab_size_;
  const std::vector<int32_t> ends_;
};

struct FakeGrammar final : Grammar {
  FakeGrammar(uint64_t seed, int64_t vocab_size, std::vector<int32_t> ends, uint64_t steadiness = 1)
      : seed(seed), vocab_size(vocab_size), ends(std::move(ends)), steadiness(steadiness) {}
  std::unique_ptr<Constraint> start() const override {
    return std::make_unique<FakeConstraint>(seed, vocab_size, ends, steadiness);
  }
  int64_t bytes() const override { return 0; }
  const uint64_t seed;
  const int64_t vocab_size;
  const std::vector<int32_t> ends;
  const uint64_t steadiness;
};

}  // namespace hearth
