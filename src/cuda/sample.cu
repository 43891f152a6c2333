// sample on the host side.
#include "cuda/kernels/sample.cuh"
#include "cuda/launch.h"
#include "cuda/limits.h"
#include "cuda/small_kernels.h"
#include "cuda/visit.h"

namespace hearth::cuda {

void sample(const SampleArgs& args, cudaStream_t stream) {
  const int64_t rows = args.logits.dim(0), vocab = args.logits.dim(1);
  if (rows == 0) return;
  HEARTH_CHECK(args.rows.dim(1) == sizeof(SamplingRow));
  HEARTH_CHECK(!args.top_tokens || args.top_tokens.dim(1) <= kMostTopTokens);
  static_assert(kMostTopTokens == kMostLogprobs);
  constexpr int64_t kMostShared = kMostVocab / 8 * sizeof(float);
  // By the vocabulary alone: the number of CTAs decides the order of a sum.
  const int ctas = vocab <= 40000 ? 4 : 8;
  const int64_t slice = ceil_div(ceil_div(vocab, ctas), 4) * 4;
  const int64_t shared_bytes = slice * static_cast<int64_t>(sizeof(float));
  HEARTH_CHECK(shared_bytes <= kMostShared);
  if (ctas == 8) allow_shared(sample_kernel<8>, kMostShared);
  const SampleParams params{
      .logits = args.logits.as<float>(),
      .rows = reinterpret_cast<const SamplingRow*>(args.rows.as<uint8_t>()),
      .num_rows = args.sizes ? args.sizes.as<int32_t>() + 2 : nullptr,
      .edit_starts = data<int32_t>(args.edit_starts),
      .edit_tokens = data<int32_t>(args.edit_tokens),
      .edit_counts = data<int32_t>(args.edit_counts),
      .edit_biases = data<float>(args.edit_biases),
      .allowed = data<uint32_t>(args.allowed),
      .has_mask = data<uint8_t>(args.has_mask),
      .tokens = args.tokens.as<int32_t>(),
      .logprobs = data<float>(args.logprobs),
      .ranks = data<int32_t>(args.ranks),
      .top_tokens = data<int32_t>(args.top_tokens),
      .top_logprobs = data<float>(args.top_logprobs),
      .mask_words = args.allowed ? static_cast<int>(args.allowed.dim(1)) : 0,
      .top_width = args.top_tokens ? static_cast<int>(args.top_tokens.dim(1)) : 0,
      .vocab = static_cast<int>(vocab),
      .slice = static_cast<int>(slice),
  };
  launch(ctas == 4 ? sample_kernel<4> : sample_kernel<8>,
         {.grid = static_cast<unsigned>(rows * ctas),
          .block = kSampleThreads,
          .shared_bytes = static_cast<size_t>(shared_bytes),
          .cluster = ctas},
         stream, params);
}

}  // namespace hearth::cuda
