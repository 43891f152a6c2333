// Allocation and look-up of scratch memory.
#include "ops/scratch.h"

#include <algorithm>

#include "ops/backend.h"

namespace hearth {

Result<Activation> Scratch::reserve(Backend& backend, std::string_view what, InputType type, int64_t max_rows,
                                    int64_t dim) {
  auto at =
      std::ranges::find_if(entries_, [&](const Entry& e) { return e.what == what && e.type == type && e.dim == dim; });
  if (at != entries_.end() && at->memory.data.dim(0) >= max_rows) return at->memory;
  Activation memory;
  HEARTH_ASSIGN(memory.data, backend.allocate(what, type.dtype, {max_rows, dim}));
  if (const int64_t groups = type.scale_groups(dim); groups > 0) {
    // A group's scales start at a multiple of 16 bytes: copy engines ask for that.
    HEARTH_ASSIGN(memory.scales, backend.allocate(what, DType::kF32, {groups, ceil_div(max_rows, 4) * 4}));
  }
  if (at == entries_.end()) at = entries_.insert(at, {std::string(what), type, dim, {}});
  at->memory = memory;
  return memory;
}

Activation Scratch::get(std::string_view what, InputType type, int64_t dim) const {
  const auto at =
      std::ranges::find_if(entries_, [&](const Entry& e) { return e.what == what && e.type == type && e.dim == dim; });
  HEARTH_CHECK(at != entries_.end());
  return at->memory;
}

Status Scratch::reserve_product(Backend& backend, std::string_view what, InputType type, int64_t max_rows,
                                int64_t dim) {
  act_ = backend.act();
  if (type.has_scales()) HEARTH_TRY(reserve(backend, what, {act_}, max_rows, dim));
  return detail::status_of(reserve(backend, what, type, max_rows, dim));
}

Scratch::Product Scratch::product(std::string_view what, InputType type, int64_t dim) const {
  return {get(what, type, dim), type.has_scales() ? get(what, {act_}, dim).data : Tensor{}};
}

}  // namespace hearth
