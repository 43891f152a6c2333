// The batch of one sequence whose blocks are 0, 1, 2, ...
#include "models/single_sequence.h"

#include <algorithm>
#include <numeric>

#include "models/kv_cache.h"

namespace hearth {

Result<SingleSequence> SingleSequence::create(Backend& backend, Model& model, int64_t max_len, int64_t max_tokens,
                                              int64_t max_logits, Ops* ops) {
  SingleSequence out(backend, model, ops);
  const int64_t blocks = ceil_div(max_len, kBlockSize);
  out.max_len_ = max_len;
  HEARTH_ASSIGN(out.cache_, allocate_kv_cache(backend, model.kv_specs(), blocks));
  const auto ints = [&](Tensor& tensor, Shape shape) -> Status {
    HEARTH_ASSIGN(tensor, backend.allocate("batch", DType::kI32, shape));
    return {};
  };
  Batch& b = out.buffers_;
  HEARTH_TRY(ints(b.sizes, {3}));
  HEARTH_TRY(ints(b.token_ids, {max_tokens}));
  HEARTH_TRY(ints(b.positions, {max_tokens}));
  HEARTH_TRY(ints(b.query_start, {2}));
  HEARTH_TRY(ints(b.context_lens, {1}));
  HEARTH_TRY(ints(b.prompt_lens, {1}));
  HEARTH_TRY(ints(b.block_tables, {1, blocks}));
  HEARTH_TRY(ints(b.logit_rows, {max_logits}));
  HEARTH_ASSIGN(b.slots, backend.allocate("batch", DType::kI64, {max_tokens}));
  HEARTH_ASSIGN(out.logits_, backend.allocate("logits", DType::kF32, {max_logits, model.vocab_size()}));
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  out.upload(b.block_tables, table);
  return out;
}

// Fills the first values of a buffer; returns that part of it.
Tensor SingleSequence::upload(const Tensor& device, std::span<const int32_t> values) {
  const int64_t n = static_cast<int64_t>(values.size());
  const Tensor part = device.shape.rank() == 2 ? device : device.rows(0, n);
  backend_->upload({const_cast<int32_t*>(values.data()), DType::kI32, part.shape}, part);
  return part;
}

void SingleSequence::append(std::span<const int32_t> tokens, bool prompt, int64_t num_logits) {
  const int64_t n = static_cast<int64_t>(tokens.size()), end = length_ + n;
  HEARTH_CHECK(n > 0 && n <= buffers_.token_ids.dim(0) && end <= max_len_);
  HEARTH_CHECK(num_logits <= n && num_logits <= buffers_.logit_rows.dim(0));
  if (prompt) prompt_length_ = end;
  const auto iota = [](int64_t count, int64_t first) {
    std::vector<int32_t> out(static_cast<size_t>(count));
    std::iota(out.begin(), out.end(), static_cast<int32_t>(first));
    return out;
  };
  Batch b = buffers_;
  b.num_tokens = n;
  b.num_sequences = 1;
  b.num_logits = num_logits;
  upload(b.sizes, std::vector<int32_t>{static_cast<int32_t>(n), 1, static_cast<int32_t>(num_logits)});
  b.token_ids = upload(b.token_ids, tokens);
  b.positions = upload(b.positions, iota(n, length_));
  b.logit_rows = upload(b.logit_rows, iota(num_logits, n - num_logits));
  upload(b.query_start, std::vector<int32_t>{0, static_cast<int32_t>(n)});
  upload(b.context_lens, std::vector<int32_t>{static_cast<int32_t>(end)});
  upload(b.prompt_lens, std::vector<int32_t>{static_cast<int32_t>(prompt_length_)});
  std::vector<int64_t> slots(static_cast<size_t>(n));  // block i of the table is block i: a slot is its position
  std::iota(slots.begin(), slots.end(), length_);
  b.slots = b.slots.rows(0, n);
  backend_->upload({slots.data(), DType::kI64, {n}}, b.slots);
  model_->forward(*ops_, b, cache_, logits_.rows(0, num_logits));
  length_ = end;
  num_logits_ = num_logits;
}

std::vector<float> SingleSequence::download_logits() const {
  const Tensor from = logits();
  std::vector<float> out(static_cast<size_t>(from.shape.elements()));
  backend_->download(from, {out.data(), DType::kF32, from.shape});
  return out;
}

}  // namespace hearth
