// A piece becomes an alternating list of matches and gaps, which the behaviour then joins or drops.
#include "text/pre_tokenizer.h"

#include "text/unicode.h"
#include "text/utf8.h"

namespace hearth {
namespace {

struct Part {
  size_t begin, end;
  bool is_separator;
};

bool belongs(Splitter::Class kind, char32_t c) {
  switch (kind) {
    case Splitter::Class::kDigit: return category(c) == Category::kNumber;
    case Splitter::Class::kSpace: return is_space(c);
    case Splitter::Class::kPunctuation:
      // ASCII counts wholly, its symbols too.
      return category(c) == Category::kPunctuation || (c < 0x80 && category(c) == Category::kSymbol);
  }
  return false;
}

class Parts {
 public:
  explicit Parts(bool invert) : invert_(invert) {}
  void add_match(size_t begin, size_t end) {
    add_gap(begin);
    add(begin, end, !invert_);
  }
  void add_gap(size_t end) { add(end_, end, invert_); }
  const std::vector<Part>& parts() const { return parts_; }

 private:
  void add(size_t begin, size_t end, bool is_separator) {
    end_ = end;
    if (begin < end) parts_.push_back({begin, end, is_separator});
  }
  bool invert_;
  size_t end_ = 0;
  std::vector<Part> parts_;
};

}  // namespace

Status Splitter::split(std::string_view piece, std::vector<std::string_view>& pieces, WorkBudget& budget) const {
  Parts found(invert);
  if (const auto* words = std::get_if<WordPattern>(&separator)) {
    for (size_t at = 0; at < piece.size();) {
      const size_t end = word_end(*words, piece, at);
      found.add_match(at, end);
      at = end;
    }
  } else if (const auto* regex = std::get_if<Regex>(&separator)) {
    for (size_t at = 0; at < piece.size();) {
      HEARTH_ASSIGN(const auto match, regex->find(piece, at, budget));
      if (match.begin == match.end) break;
      found.add_match(match.begin, match.end);
      at = match.end;
    }
  } else if (const auto* kind = std::get_if<Class>(&separator)) {
    for (size_t at = 0; at < piece.size();) {
      const CodePoint c = read_utf8(piece, at);
      if (belongs(*kind, c.value)) found.add_match(at, at + c.length);
      at += c.length;
    }
  } else {
    const auto& literal = std::get<std::string>(separator);
    for (size_t at = 0; (at = piece.find(literal, at)) != piece.npos; at += literal.size()) {
      found.add_match(at, at + literal.size());
    }
  }
  found.add_gap(piece.size());

  const auto& parts = found.parts();
  for (size_t i = 0; i < parts.size(); ++i) {
    Part part = parts[i];
    const auto join_next = [&] { part.end = parts[++i].end; };
    const auto next_is = [&](bool is_separator) {
      return i + 1 < parts.size() && parts[i + 1].is_separator == is_separator;
    };
    switch (behavior) {
      case Behavior::kRemoved:
        if (part.is_separator) continue;
        break;
      case Behavior::kIsolated: break;
      case Behavior::kMergedWithPrevious:
        if (!part.is_separator && next_is(true)) join_next();
        break;
      case Behavior::kMergedWithNext:
        if (part.is_separator && next_is(false)) join_next();
        break;
      case Behavior::kContiguous:
        while (next_is(part.is_separator)) join_next();
        break;
    }
    pieces.push_back(piece.substr(part.begin, part.end - part.begin));
  }
  return {};
}

Result<std::vector<std::string_view>> pre_tokenize(const std::vector<Splitter>& splitters, std::string_view text,
                                                   WorkBudget& budget) {
  std::vector<std::string_view> pieces{text}, cut;
  for (const Splitter& splitter : splitters) {
    cut.clear();
    for (const std::string_view piece : pieces) HEARTH_TRY(splitter.split(piece, cut, budget));
    pieces.swap(cut);
  }
  return pieces;
}

}  // namespace hearth
