// GrammarCompiler: from a GrammarSpec to a Grammar, on threads of its own, within limits, and remembered. The only
// place that knows xgrammar (https://github.com/mlc-ai/xgrammar), which does the work.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "grammar/constraint.h"
#include "grammar/grammar_spec.h"

namespace hearth {

// What a grammar must know of a model's tokens.
struct GrammarVocabulary {
  // By token id: the bytes it stands for. Control tokens are empty: a grammar that wants one names its id.
  std::vector<std::string> tokens;
  int64_t size = 0;                 // at least tokens.size(): the model's rows of logits
  std::vector<int32_t> end_tokens;  // allowed where a text may end
  // The tokens that the model would write a text with.
  std::function<std::vector<int32_t>(std::string_view)> encode;
};

struct GrammarLimits {
  int64_t max_bytes = 256 << 10;                   // of a spec
  int64_t max_compiled_bytes = int64_t{64} << 20;  // of one compiled grammar
  int64_t cache_bytes = int64_t{256} << 20;        // of all that are remembered
  std::chrono::milliseconds patience{10'000};      // a caller's, for one compilation
  int64_t max_queue = 256;                         // compilations that wait for a thread
  int threads = 2;
};

class GrammarCompiler {
 public:
  virtual ~GrammarCompiler() = default;
  // Waits for the compilation, or finds the grammar in the cache; from any thread that may wait. kInvalidArgument: the
  // spec is wrong, cannot be kept, or is too large; kResourceExhausted: too many wait already.
  virtual Result<std::shared_ptr<const Grammar>> compile(const GrammarSpec& spec) = 0;

  struct Stats {
    int64_t compiled = 0, found = 0, refused = 0;
    int64_t cached = 0, cached_bytes = 0;
  };
  virtual Stats stats() const = 0;
};

std::unique_ptr<GrammarCompiler> make_grammar_compiler(GrammarVocabulary vocabulary, const GrammarLimits& limits = {});

}  // namespace hearth
