// \p{..} and \s see Unicode (UCP); a pattern without captures needs one pair of offsets only.
#include "text/regex.h"

#include <string>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace hearth {

// Far above what a real tokenizer's expression needs, far below what an exponential one would take.
constexpr uint32_t kMatchSteps = 10'000'000;
constexpr uint32_t kHeapKilobytes = 64 * 1024;
constexpr size_t kMaxPattern = 64 * 1024;

namespace {

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
  pcre2_match_context* limits = nullptr;
  ~Code() {
    pcre2_code_free(code);
    pcre2_match_context_free(limits);
  }
};

Result<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPattern) return invalid("regular expression longer than ", kMaxPattern, " bytes");
  // Oniguruma repeats "{1,3}+", PCRE2 makes it possessive.
  if (pattern.find("}+") != pattern.npos) return unimplemented("regular expression: a repeated interval");
  const std::string spelled = with_unicode_spaces(pattern);
  auto code = std::make_shared<Code>();
  int error = 0;
  size_t error_offset = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C, &error,
                             &error_offset, nullptr);
  if (code->code == nullptr) return invalid("regular expression: error ", error, " at byte ", error_offset);
  code->limits = pcre2_match_context_create(nullptr);
  if (code->limits == nullptr) return internal_error("regular expression: out of memory");
  pcre2_set_match_limit(code->limits, kMatchSteps);
  pcre2_set_heap_limit(code->limits, kHeapKilobytes);
  return Regex(std::move(code));
}

Result<Regex::Match> Regex::find(std::string_view text, size_t from) const {
  struct Data {
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    ~Data() { pcre2_match_data_free(data); }
  };
  thread_local Data match;  // one a thread: making one for each of a text's thousands of words costs more than matching
  if (match.data == nullptr) return internal_error("regular expression: out of memory");
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.data, code_->limits);
  if (found == PCRE2_ERROR_NOMATCH) return Match{text.size(), text.size()};
  if (found < 0) return invalid("the tokenizer's regular expression takes too many steps on this text");
  const size_t* offsets = pcre2_get_ovector_pointer(match.data);
  return Match{offsets[0], offsets[1]};
}

}  // namespace hearth
