// Rotary frequencies of each scaling. Sources: linear (kaiokendev 2023), Llama 3.1's model card, YaRN (Peng et al.
// 2023).
#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/config.h"

namespace hearth {
namespace {

// Index among the frequencies of the one that makes `turns` turns over the original context.
double yarn_index(const RopeConfig& rope, double turns, double dim) {
  return dim * std::log(rope.original_max_positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
}

std::vector<float> frequencies(const RopeConfig& rope, int64_t dim) {
  std::vector<float> out(static_cast<size_t>(dim / 2));
  const float factor = static_cast<float>(rope.factor);
  double low = 0, high = 0;
  if (rope.scaling == RopeScaling::kYarn) {
    low = yarn_index(rope, rope.beta_fast, static_cast<double>(dim));
    high = yarn_index(rope, rope.beta_slow, static_cast<double>(dim));
    if (rope.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, static_cast<double>(dim - 1));
    if (low == high) high += 0.001;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const float power = std::pow(static_cast<float>(rope.theta), static_cast<float>(2 * i) / static_cast<float>(dim));
    float f = 1.0f / power;
    switch (rope.scaling) {
      case RopeScaling::kNone:
      case RopeScaling::kDynamic: break;  // changes nothing within max_positions, which bound the model
      case RopeScaling::kLinear: f /= factor; break;
      case RopeScaling::kLlama3: {
        const float original = static_cast<float>(rope.original_max_positions);
        const float low_freq = static_cast<float>(rope.low_freq_factor);
        const float high_freq = static_cast<float>(rope.high_freq_factor);
        const float wavelength = 2 * std::numbers::pi_v<float> / f;
        if (wavelength > original / low_freq) {
          f /= factor;
        } else if (wavelength >= original / high_freq) {
          const float smooth = (original / wavelength - low_freq) / (high_freq - low_freq);
          f = (1 - smooth) * (f / factor) + smooth * f;
        }
        break;
      }
      case RopeScaling::kYarn: {
        const float ramp =
            std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
        f = 1.0f / (factor * power) * ramp + f * (1 - ramp);
        break;
      }
    }
    if (!rope.divisors.empty()) f /= rope.divisors[i];
    out[i] = f;
  }
  return out;
}

}  // namespace

std::vector<float> rope_table(const RopeConfig& rope, int64_t rotary, int64_t max_positions) {
  const std::vector<float> freqs = frequencies(rope, rotary);
  const float attention_factor = static_cast<float>(rope.attention_factor);
  std::vector<float> out;
  out.reserve(static_cast<size_t>(max_positions * rotary));
  for (int64_t p = 0; p < max_positions; ++p) {
    for (const float f : freqs) out.push_back(std::cos(static_cast<float>(p) * f) * attention_factor);
    for (const float f : freqs) out.push_back(std::sin(static_cast<float>(p) * f) * attention_factor);
  }
  return out;
}

}  // namespace hearth
