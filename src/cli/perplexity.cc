// Log-probabilities are summed in double; the softmax of a row is computed here, on the host.
#include "cli/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "models/single_sequence.h"

namespace hearth {
namespace {

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return std::log(sum) + max - logits[static_cast<size_t>(token)];
}

}  // namespace

Result<Perplexity> perplexity(Backend& backend, Model& model, std::span<const int32_t> tokens, int64_t window,
                              int64_t chunk, int32_t bos, const std::function<void(int64_t, int64_t)>& progress) {
  HEARTH_ASSIGN(SingleSequence sequence, SingleSequence::create(backend, model, window, chunk, chunk));
  const auto vocab = static_cast<size_t>(model.vocab_size());
  const auto total = static_cast<int64_t>(tokens.size());
  const int64_t step = window - (bos >= 0 ? 1 : 0);
  double sum = 0;
  Perplexity out;
  for (int64_t begin = 0; begin < total; begin += step) {
    const int64_t end = std::min(begin + step, total);
    std::vector<int32_t> ids;
    if (bos >= 0) ids.push_back(bos);
    ids.insert(ids.end(), tokens.begin() + begin, tokens.begin() + end);
    const auto length = static_cast<int64_t>(ids.size());
    sequence.clear();
    // The last token of a window predicts nothing that is counted.
    for (int64_t at = 0; at + 1 < length; at += chunk) {
      const int64_t count = std::min(chunk, length - 1 - at);
      sequence.append(std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(count)), true, count);
      const std::vector<float> logits = sequence.download_logits();
      for (int64_t i = 0; i < count; ++i) {
        const std::span row = std::span(logits).subspan(static_cast<size_t>(i) * vocab, vocab);
        sum += negative_log_likelihood(row, ids[static_cast<size_t>(at + i + 1)]);
      }
      out.tokens += count;
      progress(begin + at + count, total);
    }
  }
  if (out.tokens == 0) return invalid("the text is too short: no token of it can be predicted");
  out.value = std::exp(sum / static_cast<double>(out.tokens));
  if (!std::isfinite(out.value)) return internal_error("the model's logits are not numbers");
  return out;
}

}  // namespace hearth
