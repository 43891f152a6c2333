// Checks on the caller's thread, compilation on one of a few, results in a cache that forgets the least recently used.
#include "grammar/grammar_compiler.h"

#include <dlpack/dlpack.h>
#include <xgrammar/xgrammar.h>

#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "grammar/answer_form.h"
#include "grammar/xgrammar_log.h"

namespace hearth {
namespace {

using Encode = std::function<std::vector<int32_t>(std::string_view)>;

class XConstraint final : public Constraint {
 public:
  XConstraint(const xgrammar::CompiledGrammar& grammar, std::shared_ptr<const Encode> encode)
      : matcher_(grammar), encode_(std::move(encode)) {}

  bool fill_mask(std::span<int32_t> mask) override {
    int64_t shape[] = {static_cast<int64_t>(mask.size())};
    DLTensor tensor{};
    tensor.data = mask.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = {kDLInt, 32, 1};
    tensor.shape = shape;
    return guarded([&] { return matcher_.FillNextTokenBitmask(&tensor); },
                   [&] {
                     std::ranges::fill(mask, 0);  // nothing may come: the engine ends the request
                     return true;
                   });
  }

  bool accept(int32_t token) override {
    return guarded([&] { return matcher_.AcceptToken(token); }, [] { return false; });
  }

  std::vector<int32_t> jump_ahead() override {
    std::vector<int32_t> out;
    if (!*encode_) return out;
    const auto forced = guarded([&] { return matcher_.FindJumpForwardString(); }, [] { return std::string(); });
    if (forced.size() < 2) return out;
    for (const int32_t token : (*encode_)(forced)) out.push_back(token);
    // What follows the text may be one token with its end.
    if (!out.empty()) out.pop_back();
    for (size_t i = 0; i < out.size(); ++i) {
      if (!accept(out[i])) out.resize(i);
    }
    return out;
  }

 private:
  template <typename Call, typename Otherwise>
  static auto guarded(const Call& call, const Otherwise& otherwise) -> decltype(otherwise()) {
    try {
      return call();
    } catch (const std::exception&) {
      return otherwise();
    }
  }

  xgrammar::GrammarMatcher matcher_;
  const std::shared_ptr<const Encode> encode_;
};

class XGrammar final : public Grammar {
 public:
  XGrammar(xgrammar::CompiledGrammar compiled, std::shared_ptr<const Encode> encode)
      : compiled_(std::move(compiled)),
        encode_(std::move(encode)),
        bytes_(static_cast<int64_t>(compiled_.MemorySizeBytes())) {}
  std::unique_ptr<Constraint> start() const override { return std::make_unique<XConstraint>(compiled_, encode_); }
  int64_t bytes() const override { return bytes_; }

 private:
  const xgrammar::CompiledGrammar compiled_;
  const std::shared_ptr<const Encode> encode_;
  const int64_t bytes_;
};

// What a grammar is made of once it was checked.
Result<GrammarSpec> checked(const GrammarSpec& spec, const GrammarLimits& limits) {
  GrammarSpec out = spec;
  if (static_cast<int64_t>(spec.text.size()) > limits.max_bytes) {
    return invalid("the grammar has more than ", limits.max_bytes, " bytes");
  }
  if (spec.kind == GrammarSpec::Kind::kOwnEbnf) return out;
  EbnfWriter writer;
  HEARTH_ASSIGN(const std::string root, write_form(writer, spec));
  out.text = writer.grammar(root);
  return out;
}

class Compiler final : public GrammarCompiler {
 public:
  Compiler(GrammarVocabulary vocabulary, const GrammarLimits& limits)
      : limits_(limits),
        vocabulary_(std::move(vocabulary)),
        encode_(std::make_shared<const Encode>(std::move(vocabulary_.encode))) {
    for (int i = 0; i < limits_.threads; ++i) {
      threads_.emplace_back([this] { run(); });
    }
  }

  ~Compiler() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<std::shared_ptr<const Grammar>> compile(const GrammarSpec& spec) override {
    auto plain = checked(spec, limits_);
    std::unique_lock lock(mutex_);
    if (!plain.ok()) {
      ++stats_.refused;
      return plain.status();
    }
    std::shared_ptr<Entry> entry;
    if (const auto it = entries_.find(*plain); it != entries_.end()) {
      entry = it->second;
      if (entry->done) {
        ++stats_.found;
        if (entry->in_use_order) order_.splice(order_.begin(), order_, entry->place);
        return entry->result();
      }
    } else {
      if (static_cast<int64_t>(queue_.size()) >= limits_.max_queue) {
        return Status(Code::kResourceExhausted, "too many grammars wait to be compiled");
      }
      entry = std::make_shared<Entry>(Entry{*plain});
      entries_.emplace(*plain, entry);
      queue_.push_back(entry);
      wake_.notify_one();
    }
    if (!compiled_.wait_for(lock, limits_.patience, [&] { return entry->done || stopping_; }) || !entry->done) {
      ++stats_.refused;
      return invalid("the grammar takes longer than ", limits_.patience.count() / 1000, " s to compile");
    }
    return entry->result();
  }

  Stats stats() const override {
    std::lock_guard lock(mutex_);
    Stats out = stats_;
    out.cached = static_cast<int64_t>(order_.size());
    return out;
  }

 private:
  struct Entry {
    GrammarSpec spec;
    bool done = false, in_use_order = false;
    Status status;
    std::shared_ptr<const Grammar> grammar;
    std::list<std::shared_ptr<Entry>>::iterator place;

    Result<std::shared_ptr<const Grammar>> result() const {
      if (!status.ok()) return status;
      return grammar;
    }
  };

  void run() {
    while (true) {
      std::shared_ptr<Entry> entry;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (stopping_) return;
        entry = queue_.front();
        queue_.pop_front();
      }
      auto grammar = make(entry->spec);
      {
        std::lock_guard lock(mutex_);
        entry->done = true;
        if (!grammar.ok()) {
          entry->status = grammar.status();
          ++stats_.refused;
          entries_.erase(entry->spec);  // those who wait have it; a refusal is quick to find again
        } else {
          entry->grammar = std::move(grammar).value();
          ++stats_.compiled;
          remember(entry);
        }
      }
      compiled_.notify_all();
    }
  }

  void remember(const std::shared_ptr<Entry>& entry) {
    order_.push_front(entry);
    entry->place = order_.begin();
    entry->in_use_order = true;
    stats_.cached_bytes += entry->grammar->bytes();
    while (stats_.cached_bytes > limits_.cache_bytes && !order_.empty()) {
      const std::shared_ptr<Entry> last = order_.back();
      order_.pop_back();
      last->in_use_order = false;
      stats_.cached_bytes -= last->grammar->bytes();
      entries_.erase(last->spec);
    }
  }

  // Made when it is first needed: it sorts the vocabulary.
  const xgrammar::TokenizerInfo& tokenizer() {
    std::call_once(tokenizer_once_, [this] {
      std::vector<int32_t> ends(vocabulary_.end_tokens.begin(), vocabulary_.end_tokens.end());
      // Control tokens stand for bytes that no text has, so that only who names their ids can mean them.
      for (size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
        if (vocabulary_.tokens[id].empty()) vocabulary_.tokens[id] = cat("\xFF", id);
      }
      tokenizer_.emplace(vocabulary_.tokens, xgrammar::VocabType::RAW, static_cast<int>(vocabulary_.size),
                         std::move(ends));
      vocabulary_.tokens.clear();
    });
    return *tokenizer_;
  }

  Result<std::shared_ptr<const Grammar>> make(const GrammarSpec& spec) {
    std::string& warning = xgrammar_warning();
    warning.clear();
    try {
      xgrammar::GrammarCompiler compiler(tokenizer(), 1, false);
      auto compiled = compiler.CompileGrammar(spec.text);
      if (!warning.empty()) return invalid("the grammar says something that cannot be kept");
      auto grammar = std::make_shared<const XGrammar>(std::move(compiled), encode_);
      if (grammar->bytes() > limits_.max_compiled_bytes) {
        return invalid("the grammar takes more than ", limits_.max_compiled_bytes, " bytes when compiled");
      }
      return std::shared_ptr<const Grammar>(std::move(grammar));
    } catch (const std::exception& error) {
      return refused(spec, error.what());
    }
  }

  // xgrammar's messages may repeat the grammar, so only the place is taken from them.
  static Status refused(const GrammarSpec& spec, std::string_view message) {
    const auto number_behind = [&](std::string_view word) {
      const size_t at = message.find(word);
      if (at == std::string_view::npos) return std::string();
      const std::string_view rest = message.substr(at + word.size());
      return std::string(rest.substr(0, std::min(rest.find_first_not_of("0123456789"), rest.size())));
    };
    const std::string line = number_behind("at line "), column = number_behind("column ");
    const std::string_view what = spec.kind == GrammarSpec::Kind::kJsonSchema
                                      ? "the JSON Schema cannot be satisfied or kept"
                                      : "the grammar is not well formed";
    return invalid(what, line.empty() ? "" : cat(" (line ", line, ", column ", column, ")"));
  }

  const GrammarLimits limits_;
  GrammarVocabulary vocabulary_;
  const std::shared_ptr<const Encode> encode_;
  std::once_flag tokenizer_once_;
  std::optional<xgrammar::TokenizerInfo> tokenizer_;

  mutable std::mutex mutex_;
  std::condition_variable wake_, compiled_;
  std::deque<std::shared_ptr<Entry>> queue_;
  std::map<GrammarSpec, std::shared_ptr<Entry>> entries_;  // compiled, or waited for
  std::list<std::shared_ptr<Entry>> order_;                // the compiled ones, least recently used last
  Stats stats_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<GrammarCompiler> make_grammar_compiler(GrammarVocabulary vocabulary, const GrammarLimits& limits) {
  return std::make_unique<Compiler>(std::move(vocabulary), limits);
}

}  // namespace hearth
