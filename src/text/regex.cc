// \p{..} and \s see Unicode (UCP); a pattern without captures needs one pair of offsets only.
#include "text/regex.h"

#include <algorithm>
#include <string>
#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace hearth {

namespace {

constexpr uint32_t kHeapKilobytes = 64 * 1024;
constexpr size_t kMaxPattern = 64 * 1024;
constexpr int64_t kMaxRepeats = 1000;

// Steps are counted from outside: PCRE2 calls back before each item of the expression, and says where it is. Its own
// limit is one for each place where a match may begin.
struct Meter {
  WorkBudget* budget;
  size_t at;
};
int count_steps(pcre2_callout_block* where, void* data) {
  auto& meter = *static_cast<Meter*>(data);
  const size_t before = std::exchange(meter.at, where->current_position);
  const size_t went = std::max(before, meter.at) - std::min(before, meter.at);
  return meter.budget->spend_steps(1 + static_cast<int64_t>(went)) ? 0 : PCRE2_ERROR_CALLOUT;
}

// What matching needs beside the expression: one a thread, since making it for each of a text's thousands of words
// costs more than matching.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  ~Scratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

// "{1,3}" with a larger number in it: an item that goes over so many characters between two steps counted.
bool repeats_too_often(std::string_view pattern) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      i += i + 2 < pattern.size() && pattern[i + 2] == '{' ? 2 : 1;  // "\x{2000}", "\{"
      continue;
    }
    if (pattern[i] != '{') continue;
    for (int64_t number = 0; ++i < pattern.size() && pattern[i] != '}';) {
      const bool digit = pattern[i] >= '0' && pattern[i] <= '9';
      number = digit ? number * 10 + (pattern[i] - '0') : 0;
      if (number > kMaxRepeats) return true;
    }
  }
  return false;
}

// PCRE2 counts U+180E among the spaces, which Unicode no longer does: \s and \S are spelled out.
std::string with_unicode_spaces(std::string_view pattern) {
  constexpr std::string_view kSpaces =
      "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += in_class ? cat(kSpaces) : cat('[', kSpaces, ']');
      } else if (escaped == 'S' && !in_class) {
        out += cat("[^", kSpaces, ']');
      } else {
        out += {'\\', escaped};
      }
      continue;
    }
    if (pattern[i] == '[') in_class = true;
    if (pattern[i] == ']') in_class = false;
    out += pattern[i];
  }
  return out;
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Result<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPattern) return invalid("regular expression longer than ", kMaxPattern, " bytes");
  // Oniguruma repeats "{1,3}+", PCRE2 makes it possessive.
  if (pattern.find("}+") != pattern.npos) return unimplemented("regular expression: a repeated interval");
  if (repeats_too_often(pattern)) return unimplemented("regular expression: an interval above ", kMaxRepeats);
  const std::string spelled = with_unicode_spaces(pattern);
  auto code = std::make_shared<Code>();
  int error = 0;
  size_t error_offset = 0;
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT,
                    &error, &error_offset, nullptr);
  if (code->code == nullptr) return invalid("regular expression: error ", error, " at byte ", error_offset);
  uint32_t back_references = 0;
  pcre2_pattern_info(code->code, PCRE2_INFO_BACKREFMAX, &back_references);
  if (back_references > 0) return unimplemented("regular expression: a back reference");
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // where that is not to be had, matching is slower
  return Regex(std::move(code));
}

Result<Regex::Match> Regex::find(std::string_view text, size_t from, WorkBudget& budget) const {
  thread_local Scratch scratch;
  if (scratch.data == nullptr || scratch.context == nullptr) return internal_error("regular expression: out of memory");
  Meter meter{&budget, from};
  pcre2_set_heap_limit(scratch.context, kHeapKilobytes);
  pcre2_set_callout(scratch.context, count_steps, &meter);
  const auto match = [&](uint32_t options) {
    return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | options, scratch.data, scratch.context);
  };
  int found = match(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return Match{text.size(), text.size()};
  if (found < 0) return WorkBudget::too_many_steps();
  const size_t* offsets = pcre2_get_ovector_pointer(scratch.data);
  return Match{offsets[0], offsets[1]};
}

}  // namespace hearth
