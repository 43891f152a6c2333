// The pretend model's hash.
#include "sim/fake_model.h"

#include <algorithm>
#include <bit>

namespace hearth {

namespace {

uint64_t mix(uint64_t state, uint64_t value) {
  uint64_t x = (state + 0x9E3779B97F4A7C15ull) ^ (value * 0xBF58476D1CE4E5B9ull);
  x = (x ^ (x >> 30)) * 0x94D049BB133111EBull;
  return (x ^ (x >> 31)) | 1;  // never kNan
}

}  // namespace

uint64_t FakeModel::next_state(uint64_t state, int32_t token, int64_t position, bool generated) const {
  if (state == kNan || token == nan_token) return kNan;
  state = mix(state, static_cast<uint64_t>(token));
  return mix(state, static_cast<uint64_t>(position) * 2 + (paths_differ && generated ? 1 : 0));
}

FakeModel::Output FakeModel::sample(uint64_t state, const SamplingRow& row, std::span<const Edit> edits,
                                    const std::vector<int32_t>* allowed) const {
  if (state == kNan) return {-1, std::numeric_limits<float>::quiet_NaN(), 0};
  uint64_t x = mix(state, static_cast<uint64_t>(row.position));
  if (row.target >= 0) {
    x = mix(x, static_cast<uint64_t>(row.target));
  } else {
    x = mix(x, row.seed);
    for (float value :
         {row.temperature, row.top_p, row.min_p, row.frequency_penalty, row.presence_penalty, row.repetition_penalty}) {
      x = mix(x, std::bit_cast<uint32_t>(value));
    }
    x = mix(x, static_cast<uint64_t>(row.top_k));
    uint64_t sum = 0;  // in any order
    for (const Edit& edit : edits) {
      const uint64_t change = static_cast<uint64_t>(static_cast<uint32_t>(edit.count)) << 32;
      sum += mix(static_cast<uint64_t>(edit.token), change | std::bit_cast<uint32_t>(edit.bias));
    }
    x = mix(x, sum);
  }
  int32_t token = row.target;
  if (token < 0) {
    auto masked = [&](int32_t candidate) {
      if (allowed != nullptr && (static_cast<uint32_t>((*allowed)[candidate / 32]) >> (candidate % 32) & 1) == 0)
        return true;
      return std::ranges::any_of(edits, [&](const Edit& edit) {
        return edit.token == candidate && edit.bias == -std::numeric_limits<float>::infinity();
      });
    };
    token = static_cast<int32_t>((x >> 8) % static_cast<uint64_t>(vocab_size));
    int32_t tried = 0;
    for (; tried < vocab_size && masked(token); ++tried) token = (token + 1) % vocab_size;
    if (tried == vocab_size) return {-1, 0, 0};
  }
  return {token, -static_cast<float>((x >> 16) % 1000) / 100, static_cast<int32_t>((x >> 40) % 9) + 1};
}

}  // namespace hearth
