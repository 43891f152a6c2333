// From questions to requests, in an order that the prefix cache likes.
#include "eval/scorer.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <limits>
#include <unordered_map>

namespace hearth {
namespace {

struct Candidate {
  std::vector<int32_t> tokens;
  int64_t from = 0;  // the first that is scored
  bool cut = false;
};

Result<Candidate> make_candidate(const Tokenizer& tokenizer, std::string_view context, const std::string& continuation,
                                 int64_t max_model_len) {
  const size_t text_end = context.find_last_not_of(" \t\n\r") + 1;
  const std::string behind = cat(context.substr(text_end), continuation);
  context = context.substr(0, text_end);
  const EncodeOptions encode{.add_special = true};
  Candidate out;
  HEARTH_ASSIGN(out.tokens, tokenizer.encode(cat(context, behind), encode));
  HEARTH_ASSIGN(const std::vector<int32_t> before, tokenizer.encode(context, encode));
  out.from = std::min(std::ssize(before), std::ssize(out.tokens) - 1);
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

// The tokens of a question's continuations, where each has just one and what stands before them is the same.
Result<std::vector<int32_t>> single_tokens(const Tokenizer& tokenizer, const Question& question, int64_t max_model_len,
                                           Candidate& context) {
  std::vector<int32_t> out;
  for (const std::string& continuation : question.continuations) {
    HEARTH_ASSIGN(Candidate candidate, make_candidate(tokenizer, question.context, continuation, max_model_len));
    const bool single = candidate.from == std::ssize(candidate.tokens) - 1;
    out.push_back(candidate.tokens.back());
    candidate.tokens.pop_back();
    if (!single || (out.size() > 1 && candidate.tokens != context.tokens)) return std::vector<int32_t>();
    context = std::move(candidate);
  }
  return out;
}

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
  std::vector<std::vector<int32_t>> singles(questions.size());  // of questions asked in one request
  int64_t done = 0;
  RequestSource source;
  source.next = [&]() -> Result<std::optional<Request>> {
    if (ready.empty()) return std::optional<Request>();
    Place place = ready.front();
    ready.pop_front();
    const Question& question = questions[place.question];
    if (place.continuation == kAll) {
      Candidate context;
      if (options.most_logprobs > 0) {
        HEARTH_ASSIGN(singles[place.question], single_tokens(tokenizer, question, options.max_model_len, context));
      }
      if (!singles[place.question].empty()) {
        scores[place.question].cut = context.cut;
        Request request;
        request.id = place.id();
        request.prompt = std::move(context.tokens);
        request.sampling.max_tokens = 1;
        request.sampling.temperature = 0;
        request.sampling.logprobs = options.most_logprobs;
        return std::optional<Request>(std::move(request));
      }
      place.continuation = 0;
    }
    HEARTH_ASSIGN(
        Candidate candidate,
        make_candidate(tokenizer, question.context, question.continuations[place.continuation], options.max_model_len));
    scores[place.question].cut |= candidate.cut;
    Request request;
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
    if (all) {
      const TokenLogprob& behind_context = answer.logprobs.at(0);
      for (size_t c = 0; c < num_continuations; ++c) {
        if (const auto found = logprob_of(behind_context, singles[place.question][c])) {
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
    if (all || (place.continuation == 0 && singles[place.question].empty())) {
      // Its others first: they are short, and what they need is in the cache now.
      for (size_t c = num_continuations; !all && c-- > 1;) ready.push_front({place.question, c});
      for (const size_t q : behind[place.question]) ready.push_back({q, kAll});
    }
    if (left[place.question] > 0) return;
    choose(questions[place.question], scores[place.question]);
    if (progress) progress(++done, std::ssize(questions));
  };
  HEARTH_TRY(run_requests(engine, clock, options.most, std::move(source)));
  return scores;
}

}  // namespace hearth
