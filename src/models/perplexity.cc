// Each window as one sequence; log-likelihoods summed in double precision.
#include "models/perplexity.h"

#include <algorithm>
#include <thread>

#include "models/single_sequence.h"

namespace hearth {
namespace {

// Of `token` under a row of logits.
double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum) - logits[static_cast<size_t>(token)];
}

}  // namespace

// Of each row [n, vocab], its token the one at the row's place; on several threads, since a large vocabulary takes
// long.
std::vector<double> negative_log_likelihoods(std::span<const float> logits, std::span<const int32_t> tokens) {
  const size_t n = tokens.size(), vocab = logits.size() / n;
  std::vector<double> out(n);
  const size_t num_threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 16);
  std::vector<std::jthread> threads;
  for (size_t t = 0; t < num_threads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < n; i += num_threads) {
        out[i] = negative_log_likelihood(logits.subspan(i * vocab, vocab), tokens[i]);
      }
    });
  }
  threads.clear();  // joins them
  return out;
}

Result<PerplexityResult> measure_perplexity(Backend& backend, Model& model, std::span<const int32_t> tokens,
                                            int64_t window, int64_t step,
                                            const std::function<void(const PerplexityResult&)>& progress) {
  if (window == 0) window = model.max_model_len();
  if (window < 2 || window > model.max_model_len() || step < 1) {
    return invalid("expected windows of 2 to ", model.max_model_len(), " tokens in steps of at least 1, found ", window,
                   " in steps of ", step);
  }
  if (tokens.size() < 2) return invalid("expected a text of at least 2 tokens, found ", tokens.size());
  const size_t vocab = static_cast<size_t>(model.vocab_size());
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= vocab) {
      return invalid("expected token ids below ", vocab, ", found ", token);
    }
  }
  HEARTH_ASSIGN(SingleSequence sequence, SingleSequence::create(backend, model, window, step, step));
  // One piece of host memory that the device copies to by itself: fresh memory for every step took most of the time.
  HEARTH_ASSIGN(const Tensor host, backend.allocate_host("logits", DType::kF32, {step, model.vocab_size()}));
  PerplexityResult out;
  for (; tokens.size() >= 2; tokens = tokens.subspan(std::min(tokens.size(), static_cast<size_t>(window)))) {
    const auto inputs = tokens.first(std::min(tokens.size(), static_cast<size_t>(window)));
    sequence.clear();
    PerplexityResult::Window& current = out.windows.emplace_back();
    for (size_t begin = 0; begin + 1 < inputs.size(); begin += static_cast<size_t>(step)) {
      const size_t n = std::min(static_cast<size_t>(step), inputs.size() - 1 - begin);
      sequence.append(inputs.subspan(begin, n), true, static_cast<int64_t>(n));
      backend.enqueue_download(sequence.logits(), host.rows(0, static_cast<int64_t>(n)));
      HEARTH_TRY(backend.wait(backend.mark()));
      for (const double nll : negative_log_likelihoods({host.as<float>(), n * vocab}, inputs.subspan(begin + 1, n))) {
        current.nll += nll;
        out.total_nll += nll;
      }
      current.scored += static_cast<int64_t>(n);
      out.scored += static_cast<int64_t>(n);
      if (progress) progress(out);
    }
  }
  if (!std::isfinite(out.total_nll)) return internal_error("the model gave logits that are not finite");
  return out;
}

}  // namespace hearth
