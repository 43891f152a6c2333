// From questions to requests, in an order that the prefix cache likes.
#include "eval/scorer.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <deque>
#include <limits>
#include <ranges>
#include <thread>
#include <unordered_map>

namespace hearth {
namespace {

constexpr EncodeOptions kEncode{.add_special = true};

// A context without the spaces at its end, which go to the continuation; and how many tokens it has by itself.
struct Context {
  std::string_view text, spaces;
  int64_t tokens = 0;
  static Result<Context> of(const Tokenizer& tokenizer, std::string_view text) {
    const size_t end = text.find_last_not_of(" \t\n\r") + 1;
    HEARTH_ASSIGN(const std::vector<int32_t> tokens, tokenizer.encode(text.substr(0, end), kEncode));
    return Context{text.substr(0, end), text.substr(end), std::ssize(tokens)};
  }
};

struct Candidate {
  std::vector<int32_t> tokens;
  int64_t from = 0;  // the first that is scored
  bool cut = false;
};

Result<Candidate> make_candidate(const Tokenizer& tokenizer, const Context& context, const std::string& continuation,
                                 int64_t max_model_len) {
  Candidate out;
  HEARTH_ASSIGN(out.tokens, tokenizer.encode(cat(context.text, context.spaces, continuation), kEncode));
  out.from = std::min(context.tokens, std::ssize(out.tokens) - 1);
  if (out.from < 1) {  // nothing to be conditioned on but a token that begins a text
    const auto begin = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    if (!begin) return unimplemented("an empty context, and a tokenizer that names no token to begin with");
    out.tokens.insert(out.tokens.begin(), *begin);
    out.from = 1;
  }
  const int64_t surplus = std::ssize(out.tokens) - max_model_len;
  if (surplus > 0) {
    if (surplus >= out.from) return invalid("a choice has more tokens than the model's context");
    out.tokens.erase(out.tokens.begin(), out.tokens.begin() + surplus);
    out.from -= surplus;
    out.cut = true;
  }
  return out;
}

constexpr size_t kAll = std::numeric_limits<size_t>::max();

// A question and one of its continuations (or all), as a request's id.
struct Place {
  size_t question = 0, continuation = 0;
  std::string id() const { return cat(question, ".", continuation); }
  static Place of(const std::string& id) {
    Place out;
    const char* end = id.data() + id.size();
    const auto first = std::from_chars(id.data(), end, out.question);
    std::from_chars(first.ptr + 1, end, out.continuation);
    return out;
  }
};

// A question in tokens: its candidates; or, where each continuation has just one token and what stands before them is
// the same, that and those.
struct Tokenized {
  std::vector<Candidate> candidates;
  Candidate context;
  std::vector<int32_t> singles;
};

Result<Tokenized> tokenize(const Tokenizer& tokenizer, const Question& question, const ScoreOptions& options) {
  Tokenized out;
  HEARTH_ASSIGN(const Context context, Context::of(tokenizer, question.context));
  bool single = options.most_logprobs > 0;
  for (const std::string& continuation : question.continuations) {
    HEARTH_ASSIGN(Candidate candidate, make_candidate(tokenizer, context, continuation, options.max_model_len));
    const auto behind_context = [](const Candidate& c) { return std::span(c.tokens).first(c.tokens.size() - 1); };
    single &= candidate.from == std::ssize(candidate.tokens) - 1;
    single &=
        out.candidates.empty() || std::ranges::equal(behind_context(candidate), behind_context(out.candidates.front()));
    out.candidates.push_back(std::move(candidate));
  }
  if (!single || out.candidates.empty()) return out;
  for (const Candidate& candidate : out.candidates) out.singles.push_back(candidate.tokens.back());
  out.context = out.candidates.front();
  out.context.tokens.pop_back();
  return out;
}

// The next questions' tokens, made by several threads: a benchmark's prompts are long, and one thread keeps a GPU
// waiting.
class TokenizedAhead {
 public:
  TokenizedAhead(const Tokenizer& tokenizer, std::span<const Question> questions, const ScoreOptions& options)
      : tokenizer_(tokenizer), questions_(questions), options_(options) {}

  // `next`: questions that are asked after this one, in order.
  template <typename Next>
  Result<Tokenized*> get(size_t question, const Next& next) {
    if (!made_.contains(question)) {
      std::vector<size_t> wanted{question};
      for (const size_t other : next) {
        if (wanted.size() >= kAhead) break;
        if (!made_.contains(other)) wanted.push_back(other);
      }
      std::vector<std::optional<Result<Tokenized>>> results(wanted.size());
      std::atomic<size_t> taken = 0;
      {
        std::vector<std::jthread> threads;
        const size_t count = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 16);
        for (size_t t = 0; t < std::min(count, wanted.size()); ++t) {
          threads.emplace_back([&] {
            for (size_t i; (i = taken++) < wanted.size();)
              results[i].emplace(tokenize(tokenizer_, questions_[wanted[i]], options_));
          });
        }
      }
      for (size_t i = 0; i < wanted.size(); ++i) {
        HEARTH_ASSIGN(Tokenized tokenized, std::move(*results[i]));
        made_.emplace(wanted[i], std::move(tokenized));
      }
    }
    return &made_.at(question);
  }
  // Of a question that is being asked.
  const Tokenized* find(size_t question) const { return &made_.at(question); }
  void forget(size_t question) { made_.erase(question); }

 private:
  static constexpr size_t kAhead = 512;  // questions
  const Tokenizer& tokenizer_;
  std::span<const Question> questions_;
  const ScoreOptions& options_;
  std::unordered_map<size_t, Tokenized> made_;
};

std::optional<double> logprob_of(const TokenLogprob& drawn, int32_t token) {
  if (drawn.token == token) return drawn.logprob;
  const auto it = std::ranges::find(drawn.top, token, &std::pair<int32_t, float>::first);
  return it == drawn.top.end() ? std::nullopt : std::optional<double>(it->second);
}

void choose(const Question& question, QuestionScore& score) {
  const auto largest = [&](auto value) {
    int64_t best = 0;
    for (int64_t i = 1; i < std::ssize(score.logprobs); ++i) {
      if (value(i) > value(best)) best = i;
    }
    return best;
  };
  score.chosen = largest([&](int64_t i) { return score.logprobs[static_cast<size_t>(i)]; });
  score.chosen_by_byte = largest([&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    return score.logprobs[at] / static_cast<double>(question.continuations[at].size());
  });
}

}  // namespace

Result<std::vector<QuestionScore>> score_questions(Engine& engine, const Clock& clock, const Tokenizer& tokenizer,
                                                   std::span<const Question> questions, const ScoreOptions& options,
                                                   const std::function<void(int64_t done, int64_t total)>& progress) {
  std::vector<QuestionScore> scores(questions.size());
  std::vector<size_t> left(questions.size());
  for (size_t q = 0; q < questions.size(); ++q) {
    left[q] = questions[q].continuations.size();
    scores[q].logprobs.resize(left[q]);
  }
  // A subject's first question, then what waits for it.
  std::deque<Place> ready;
  std::vector<std::vector<size_t>> behind(questions.size());
  {
    std::unordered_map<std::string, size_t> first_of;
    for (size_t q = 0; q < questions.size(); ++q) {
      const std::string& subject = questions[q].subject;
      const auto [it, is_first] = first_of.try_emplace(subject, q);
      if (is_first || subject.empty()) {
        ready.push_back({q, kAll});
      } else {
        behind[it->second].push_back(q);
      }
    }
  }
  TokenizedAhead tokenized(tokenizer, questions, options);
  const auto question_of = [](const Place& place) { return place.question; };
  int64_t done = 0;
  RequestSource source;
  source.next = [&]() -> Result<std::optional<Request>> {
    if (ready.empty()) return std::optional<Request>();
    Place place = ready.front();
    ready.pop_front();
    HEARTH_ASSIGN(Tokenized* const question, tokenized.get(place.question, ready | std::views::transform(question_of)));
    Request request;
    if (place.continuation == kAll && !question->singles.empty()) {
      scores[place.question].cut = question->context.cut;
      request.id = place.id();
      request.prompt = question->context.tokens;
      request.sampling.max_tokens = 1;
      request.sampling.temperature = 0;
      request.sampling.logprobs = options.most_logprobs;
      return std::optional<Request>(std::move(request));
    }
    if (place.continuation == kAll) place.continuation = 0;
    Candidate& candidate = question->candidates[place.continuation];
    scores[place.question].cut |= candidate.cut;
    request.id = place.id();
    request.prompt = std::move(candidate.tokens);
    request.sampling.max_tokens = 0;
    request.sampling.prompt_logprobs = 0;
    request.sampling.prompt_logprobs_from = candidate.from;
    return std::optional<Request>(std::move(request));
  };
  source.answered = [&](const std::string& id, EngineAnswer&& answer) {
    const Place place = Place::of(id);
    const size_t num_continuations = questions[place.question].continuations.size();
    const bool all = place.continuation == kAll;
    const Tokenized* made = tokenized.find(place.question);
    const bool single = !made->singles.empty();
    if (all) {
      const TokenLogprob& behind_context = answer.logprobs.at(0);
      for (size_t c = 0; c < num_continuations; ++c) {
        if (const auto found = logprob_of(behind_context, made->singles[c])) {
          scores[place.question].logprobs[c] = *found;
          --left[place.question];
        } else {
          ready.push_front({place.question, c});
        }
      }
    } else {
      double sum = 0;
      for (const auto& token : answer.prompt_logprobs) sum += token ? static_cast<double>(token->logprob) : 0;
      scores[place.question].logprobs[place.continuation] = sum;
      --left[place.question];
    }
    if (all || (place.continuation == 0 && !single)) {
      // Its others first: they are short, and what they need is in the cache now.
      for (size_t c = num_continuations; !all && c-- > 1;) ready.push_front({place.question, c});
      for (const size_t q : behind[place.question]) ready.push_back({q, kAll});
    }
    if (left[place.question] > 0) return;
    tokenized.forget(place.question);
    choose(questions[place.question], scores[place.question]);
    if (progress) progress(++done, std::ssize(questions));
  };
  HEARTH_TRY(run_requests(engine, clock, options.most, std::move(source)));
  return scores;
}

}  // namespace hearth
