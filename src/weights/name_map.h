// NameMap: a checkpoint under Hearth's names, by a table of rules that a model's family states (models/family.h).
// Experts that a file stacks are taken apart, rows that it keeps in pairs are put in order.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "weights/checkpoint.h"

namespace hearth {

// How a matrix's rows, or a bias's elements, stand in the file.
enum class RowOrder : uint8_t {
  kInOrder,
  // Pairs (0, half), (1, half + 1), ... of each query or key head, as GGUF has them for some families, where Hearth has
  // the first halves of all pairs first.
  kQueryPairs,
  kKeyPairs,
  // Of a stacked tensor with `second`: its own rows and second's in turns.
  kInTurns,
};

// A rule speaks of the tensors NAME.REST ("REST": weight, bias, weight_scale, ...), or of NAME itself where that is all
// of the name; of all that fit, the longest does.
struct NameRule {
  std::string_view file;  // "model.layers.#.self_attn.q_proj"; '#' stands for a number
  std::string_view own;   // "layers.#.q": the same numbers
  // One more '#' in `own` than in `file`: the tensor is stacked, one expert behind the other. Its names may also be
  // NAME itself (for NAME.weight), NAME_bias and NAME_REST (for NAME.weight_REST; NAME_activation_scale has a number an
  // expert).
  // With `second` the first half of the rows, where it is stacked of an expert's, is `own`, the other half `second`.
  std::string_view second = {};
  RowOrder order = RowOrder::kInOrder;
  bool columns_first = false;  // a stacked matrix that is not in MXFP4 stands as [experts, columns, rows]
};

struct HeadCounts {
  int64_t heads = 0, kv_heads = 0;
};

// A tensor that no rule speaks of keeps its name; one whose name begins with one of `unused` is left out. `heads`: for
// rows in pairs.
Result<std::shared_ptr<const Checkpoint>> rename_tensors(std::shared_ptr<const Checkpoint> file,
                                                         std::span<const NameRule> rules, const HeadCounts& heads,
                                                         std::span<const std::string> unused = {});

}  // namespace hearth
