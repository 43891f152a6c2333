// Each step takes the text by value and gives it back changed.
#include "text/normalizer.h"

#include <algorithm>

#include "text/nfc.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth {
namespace {

Result<std::string> replace_all(const std::string& text, const std::string& from, const std::string& to,
                                WorkBudget& budget) {
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != text.npos; at = hit + from.size()) {
    if (to.size() > from.size() && !budget.spend_growth(static_cast<int64_t>(to.size() - from.size()))) {
      return WorkBudget::too_long();
    }
    out.append(text, at, hit - at).append(to);
  }
  return out.append(text, at);
}

Result<std::string> lowercase(std::string text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text, at);
    if (c.length == 1 && c.value >= 'A' && c.value <= 'Z') text[at] = static_cast<char>(c.value + 32);
    if (c.length > 1 && (category(c.value) == Category::kUpper || category(c.value) == Category::kTitle)) {
      return unimplemented("capitals outside ASCII for a tokenizer that lowercases");
    }
    at += c.length;
  }
  return text;
}

std::string strip(const std::string& text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_utf8(text, at);
    if (!is_space(c.value)) {
      begin = std::min(begin, at);
      end = at + c.length;
    }
    at += c.length;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string();
}

}  // namespace

Result<std::string> rewrite(const std::vector<Rewrite>& steps, std::string text, bool at_start, WorkBudget& budget) {
  for (const Rewrite& step : steps) {
    switch (step.kind) {
      case Rewrite::Kind::kPrependAtStart:
        if (!at_start) break;
        [[fallthrough]];
      case Rewrite::Kind::kPrependIfNone:
        if (text.starts_with(step.to)) break;
        [[fallthrough]];
      case Rewrite::Kind::kPrepend:
        if (text.empty()) break;
        if (!budget.spend_growth(static_cast<int64_t>(step.to.size()))) return WorkBudget::too_long();
        text.insert(0, step.to);
        break;
      case Rewrite::Kind::kReplace: {
        HEARTH_ASSIGN(text, replace_all(text, step.from, step.to, budget));
        break;
      }
      case Rewrite::Kind::kLowercase: {
        HEARTH_ASSIGN(text, lowercase(std::move(text)));
        break;
      }
      case Rewrite::Kind::kNfc: text = to_nfc(text); break;
      case Rewrite::Kind::kStrip: text = strip(text); break;
    }
  }
  return text;
}

}  // namespace hearth
