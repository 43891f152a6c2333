// A recursive descent into a tree, a Glushkov automaton of it for the check of ambiguity, and the tree printed again.
#include "grammar/regex_to_ebnf.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace hearth {
namespace {

constexpr char32_t kMaxCodePoint = 0x10FFFF;
constexpr int64_t kUnbounded = RegexNode::kUnbounded;
using Node = RegexNode;
using Range = CharRange;

CharClass normalized(CharClass ranges) {
  std::ranges::sort(ranges, {}, &Range::first);
  CharClass out;
  for (const Range& range : ranges) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

CharClass negated(const CharClass& ranges) {
  CharClass out;
  char32_t next = 0;
  for (const Range& range : ranges) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodePoint) out.push_back({next, kMaxCodePoint});
  return out;
}

bool intersects(const CharClass& a, const CharClass& b) {
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i].last < b[j].first) {
      ++i;
    } else if (b[j].last < a[i].first) {
      ++j;
    } else {
      return true;
    }
  }
  return false;
}

const CharClass kDigits{{'0', '9'}};
const CharClass kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharClass kSpaces{{'\t', '\r'}, {' ', ' '}};
const CharClass kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
// What others take for letters, digits and spaces beyond ASCII is in no class of ours, nor in one's opposite.
const CharClass kNotAscii{{0x80, kMaxCodePoint}};

CharClass opposite(const CharClass& ranges) {
  CharClass all = ranges;
  all.insert(all.end(), kNotAscii.begin(), kNotAscii.end());
  return negated(normalized(all));
}

class Parser {
 public:
  Parser(std::string_view regex, const RegexLimits& limits) : regex_(regex), limits_(limits) {}

  Result<Node> parse() {
    Node out = alternatives(0);
    if (status_.ok() && at_ < regex_.size()) refuse("has a parenthesis that closes nothing");
    if (!status_.ok()) return status_;
    return out;
  }

 private:
  void refuse(std::string_view why) {
    if (status_.ok()) status_ = invalid("the regular expression ", why, " (at byte ", at_, ")");
  }
  bool more() const { return status_.ok() && at_ < regex_.size(); }
  char peek() const { return regex_[at_]; }
  bool take(std::string_view text) {
    if (!regex_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  char32_t code_point() {
    const auto lead = static_cast<unsigned char>(regex_[at_++]);
    if (lead < 0x80) return lead;
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;  // the text is UTF-8: checked before
    char32_t value = lead & (0x3F >> more);
    for (int i = 0; i < more && at_ < regex_.size(); ++i) value = value << 6 | (regex_[at_++] & 0x3F);
    return value;
  }

  Node alternatives(int64_t depth) {
    Node out{.kind = Node::Kind::kAlternatives};
    if (depth > limits_.max_depth) {
      refuse(cat("has groups nested deeper than ", limits_.max_depth));
      return out;
    }
    do {
      out.parts.push_back(sequence(depth));
    } while (more() && take("|"));
    if (out.parts.size() == 1) return std::move(out.parts[0]);
    return out;
  }

  Node sequence(int64_t depth) {
    Node out;
    // An anchor says nothing where the whole text is matched, and cannot hold anywhere else.
    const bool outer = depth == 0 || at_anchor_group_;
    while (more() && peek() == '^') {
      if (!outer) refuse("has ^ inside a group");
      ++at_;
    }
    while (more() && peek() != '|' && peek() != ')') {
      if (peek() == '$') {
        ++at_;
        if (at_ < regex_.size() && peek() != '|' && !(peek() == ')' && depth > 0)) refuse("has $ before its end");
        if (!outer) refuse("has $ inside a group");
        continue;
      }
      if (peek() == '^') {
        refuse("has ^ behind its beginning");
        break;
      }
      Node one = atom(depth);
      if (!status_.ok()) break;
      out.parts.push_back(repeated(std::move(one)));
    }
    return out;
  }

  Node atom(int64_t depth) {
    if (take("(")) {
      // A group around everything may hold the anchors.
      const bool was = at_anchor_group_;
      at_anchor_group_ = depth == 0 && at_ == 1 && closes_at_end();
      if (take("?")) group_modifier();
      Node inner = alternatives(depth + 1);
      at_anchor_group_ = was;
      if (status_.ok() && !take(")")) refuse("has a parenthesis that is not closed");
      return inner;
    }
    Node out{.kind = Node::Kind::kClass};
    if (take("[")) {
      out.chars = bracket();
    } else if (take(".")) {
      out.chars = negated(kLineEnds);
    } else if (peek() == '\\') {
      out.chars = escape(false);
    } else if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') {
      refuse("repeats nothing");
    } else {
      const char32_t c = code_point();
      out.chars = {{c, c}};
    }
    return out;
  }

  bool closes_at_end() const {
    int64_t depth = 1;
    bool in_class = false;
    for (size_t i = at_; i < regex_.size(); ++i) {
      const char c = regex_[i];
      if (c == '\\') {
        ++i;
      } else if (in_class) {
        in_class = c != ']';
      } else if (c == '[') {
        in_class = true;
      } else if (c == '(') {
        ++depth;
      } else if (c == ')' && --depth == 0) {
        return i + 1 == regex_.size();
      }
    }
    return false;
  }

  void group_modifier() {
    if (take(":")) return;
    take("P");
    if (take("<") && more() && peek() != '=' && peek() != '!') {
      while (more() && peek() != '>') ++at_;
      if (take(">")) return;
    }
    refuse("has a group that looks around, sets flags or refers back");
  }

  Node repeated(Node one) {
    int64_t min, max;
    if (!more()) return one;
    if (take("*")) {
      min = 0, max = kUnbounded;
    } else if (take("+")) {
      min = 1, max = kUnbounded;
    } else if (take("?")) {
      min = 0, max = 1;
    } else if (take("{")) {
      min = number();
      max = min;
      if (take(",")) max = more() && peek() == '}' ? kUnbounded : number();
      if (!take("}") || (max != kUnbounded && max < min)) refuse("has a repetition that is not {n}, {n,} or {n,m}");
    } else {
      return one;
    }
    take("?");  // which of its matches is taken first does not matter
    if (more() && (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')) refuse("repeats a repetition");
    Node out{.kind = Node::Kind::kRepeat, .min = min, .max = max};
    out.parts.push_back(std::move(one));
    return out;
  }

  int64_t number() {
    int64_t value = 0;
    const size_t begin = at_;
    for (; more() && peek() >= '0' && peek() <= '9'; ++at_) {
      value = value * 10 + (peek() - '0');
      if (value > limits_.max_positions) refuse(cat("repeats more than ", limits_.max_positions, " times"));
    }
    if (at_ == begin) refuse("has a repetition that is not {n}, {n,} or {n,m}");
    return value;
  }

  CharClass bracket() {
    const bool negative = take("^");
    CharClass out;
    while (more() && peek() != ']') {
      const CharClass low = member();
      if (more() && peek() == '-' && at_ + 1 < regex_.size() && regex_[at_ + 1] != ']') {
        ++at_;
        const CharClass high = member();
        if (!single(low) || !single(high) || low[0].first > high[0].first) {
          refuse("has a class with a range that runs backwards");
          return out;
        }
        out.push_back({low[0].first, high[0].first});
      } else {
        out.insert(out.end(), low.begin(), low.end());
      }
    }
    if (!take("]")) refuse("has a class that is not closed");
    out = normalized(out);
    if (negative) out = negated(out);
    if (out.empty()) refuse("has a class that nothing matches");
    return out;
  }
  static bool single(const CharClass& chars) { return chars.size() == 1 && chars[0].first == chars[0].last; }

  CharClass member() {
    if (!more()) return {{0, 0}};
    if (peek() == '\\') return escape(true);
    if (peek() == '[' && at_ + 1 < regex_.size() && regex_[at_ + 1] == ':') refuse("has a POSIX class");
    const char32_t c = code_point();
    return {{c, c}};
  }

  CharClass escape(bool in_class) {
    ++at_;
    if (!more()) {
      refuse("ends with a backslash");
      return {{0, 0}};
    }
    const char32_t c = code_point();
    switch (c) {
      case 'd': return kDigits;
      case 'D': return opposite(kDigits);
      case 'w': return kWord;
      case 'W': return opposite(kWord);
      case 's': return kSpaces;
      case 'S': return opposite(kSpaces);
      case 'n': return {{'\n', '\n'}};
      case 'r': return {{'\r', '\r'}};
      case 't': return {{'\t', '\t'}};
      case 'f': return {{'\f', '\f'}};
      case 'v': return {{'\v', '\v'}};
      case '0': return {{0, 0}};
      case 'x': return hex(2);
      case 'u': return take("{") ? braced_hex() : hex(4);
      case 'b':
        if (in_class) return {{'\b', '\b'}};
        break;
      default: break;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9') || c >= 0x80) {
      refuse("has an escape that is not supported (a word boundary, a back reference, \\p, \\A, \\Z or another)");
    }
    return {{c, c}};
  }

  CharClass hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const int digit = more() ? digit_of(regex_[at_++]) : -1;
      if (digit < 0) {
        refuse("has an escape with too few hexadecimal digits");
        return {{0, 0}};
      }
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value >= 0xD800 && value <= 0xDFFF) refuse("names a surrogate");
    return {{value, value}};
  }
  CharClass braced_hex() {
    char32_t value = 0;
    while (more() && peek() != '}') {
      const int digit = digit_of(regex_[at_++]);
      value = value * 16 + static_cast<char32_t>(digit);
      if (digit < 0 || value > kMaxCodePoint) {
        refuse("has an escape with wrong hexadecimal digits");
        return {{0, 0}};
      }
    }
    if (!take("}")) refuse("has an escape that is not closed");
    return {{value, value}};
  }
  static int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  }

  const std::string_view regex_;
  const RegexLimits& limits_;
  size_t at_ = 0;
  bool at_anchor_group_ = false;
  Status status_;
};

// Characters and classes with bounded repetitions written out, at most limit + 1.
int64_t positions(const Node& node, int64_t limit) {
  if (node.kind == Node::Kind::kClass) return 1;
  int64_t sum = 0;
  for (const Node& part : node.parts) sum = std::min(sum + positions(part, limit), limit + 1);
  if (node.kind != Node::Kind::kRepeat) return sum;
  const int64_t times = std::max<int64_t>({node.min, node.max, 1});
  return sum > limit / times ? limit + 1 : sum * times;
}

// Positions and what may follow each (Glushkov 1961). What repeats many times repeats without a bound here, the rest
// once.
class Automaton {
 public:
  explicit Automaton(const Node& node) { add(node); }

  // Whether some text leads from a state back to itself in two ways: then texts of n such pieces match in 2^n ways. In
  // the product of the automaton with itself, a pair of one state twice and a pair of two states are then on one cycle
  // (Weber and Seidl 1991, "On the degree of ambiguity of finite automata"). Nullopt: too large to say.
  std::optional<bool> exponentially_ambiguous() const {
    constexpr int64_t kMostWork = 10'000'000;
    const size_t n = chars_.size();
    if (!repeats_) return false;
    if (n > kMostStates) return std::nullopt;
    // Tarjan's strongly connected components, without recursion.
    std::vector<int32_t> number(n * n), low(n * n);
    std::vector<bool> on_stack(n * n);
    std::vector<size_t> stack;
    struct Frame {
      size_t pair, i = 0, j = 0;
    };
    std::vector<Frame> open;
    int32_t count = 0;
    int64_t work = 0;
    const auto enter = [&](size_t pair) {
      number[pair] = low[pair] = ++count;
      stack.push_back(pair);
      on_stack[pair] = true;
      open.push_back({pair});
    };
    for (size_t state = 0; state < n; ++state) {
      if (number[state * n + state] == 0) enter(state * n + state);
      while (!open.empty()) {
        Frame& frame = open.back();
        const auto& left = follow_[frame.pair / n];
        const auto& right = follow_[frame.pair % n];
        if (frame.i < left.size() && frame.j < right.size()) {
          const size_t p = left[frame.i], q = right[frame.j];
          if (++frame.j == right.size()) frame.j = 0, ++frame.i;
          if (++work > kMostWork) return std::nullopt;
          if (p != q && !intersects(chars_[p], chars_[q])) continue;
          const size_t next = p * n + q;
          if (number[next] == 0) {
            enter(next);
          } else if (on_stack[next]) {
            low[frame.pair] = std::min(low[frame.pair], number[next]);
          }
          continue;
        }
        const size_t pair = frame.pair;
        open.pop_back();
        if (!open.empty()) low[open.back().pair] = std::min(low[open.back().pair], low[pair]);
        if (low[pair] != number[pair]) continue;
        bool same = false, different = false;
        for (size_t member = n * n; member != pair;) {
          member = stack.back();
          stack.pop_back();
          on_stack[member] = false;
          (member / n == member % n ? same : different) = true;
        }
        if (same && different) return true;
      }
    }
    return false;
  }

 private:
  static constexpr int64_t kManyTimes = 16;
  static constexpr size_t kMostStates = 500;
  struct Ends {
    std::vector<size_t> first, last;
    bool nullable = true;
  };

  Ends add(const Node& node) {
    Ends out;
    switch (node.kind) {
      case Node::Kind::kClass:
        out = {{chars_.size()}, {chars_.size()}, false};
        chars_.push_back(node.chars);
        follow_.emplace_back();
        return out;
      case Node::Kind::kConcat:
        for (const Node& part : node.parts) {
          Ends next = add(part);
          connect(out.last, next.first);
          if (out.nullable) out.first.insert(out.first.end(), next.first.begin(), next.first.end());
          if (!next.nullable) out.last.clear();
          out.last.insert(out.last.end(), next.last.begin(), next.last.end());
          out.nullable = out.nullable && next.nullable;
        }
        return out;
      case Node::Kind::kAlternatives:
        out.nullable = false;
        for (const Node& part : node.parts) {
          const Ends next = add(part);
          out.first.insert(out.first.end(), next.first.begin(), next.first.end());
          out.last.insert(out.last.end(), next.last.begin(), next.last.end());
          out.nullable = out.nullable || next.nullable;
        }
        return out;
      case Node::Kind::kRepeat:
        out = add(node.parts[0]);
        if (node.max == kUnbounded || node.max > kManyTimes) {
          connect(out.last, out.first);
          repeats_ = true;
        }
        out.nullable = out.nullable || node.min == 0;
        return out;
    }
    return out;
  }

  void connect(const std::vector<size_t>& from, const std::vector<size_t>& to) {
    if (chars_.size() > kMostStates) return;
    for (const size_t state : from) {
      for (const size_t next : to) {
        if (std::ranges::find(follow_[state], next) == follow_[state].end()) follow_[state].push_back(next);
      }
    }
  }

  std::vector<CharClass> chars_;  // by state: what leads into it
  std::vector<std::vector<size_t>> follow_;
  bool repeats_ = false;
};

constexpr std::string_view kHex = "0123456789abcdef";

// In a class of the EBNF.
void print_char(std::string& out, char32_t c) {
  if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) {
    out += static_cast<char>(c);
    return;
  }
  out += "\\U";
  for (int shift = 28; shift >= 0; shift -= 4) out += kHex[c >> shift & 15];
}

void print_class(std::string& out, const CharClass& chars) {
  const auto print_range = [&](char32_t first, char32_t last) {
    if (first > last) return;
    print_char(out, first);
    if (last == first) return;
    out += '-';
    print_char(out, last);
  };
  out += '[';
  for (const Range& range : chars) {
    // Halves of surrogate pairs are no characters of UTF-8.
    print_range(range.first, std::min<char32_t>(range.last, 0xD7FF));
    print_range(std::max<char32_t>(range.first, 0xE000), range.last);
  }
  out += ']';
}

// In a JSON string some characters are two or more: those that are mostly written so.
Node in_json_string(Node node) {
  if (node.kind != Node::Kind::kClass) {
    for (Node& part : node.parts) part = in_json_string(std::move(part));
    return node;
  }
  static const CharClass kEscaped{{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  if (!intersects(node.chars, kEscaped)) return node;
  Node out{.kind = Node::Kind::kAlternatives};
  // What is in neither the complement nor among the escaped ones.
  CharClass outside = negated(node.chars);
  outside.insert(outside.end(), kEscaped.begin(), kEscaped.end());
  Node raw{.kind = Node::Kind::kClass, .chars = negated(normalized(outside))};
  if (!raw.chars.empty()) out.parts.push_back(std::move(raw));
  const auto add = [&](std::string_view escape) {
    Node sequence;
    for (const char c : escape) {
      const auto value = static_cast<char32_t>(c);
      sequence.parts.push_back({.kind = Node::Kind::kClass, .chars = {{value, value}}});
    }
    out.parts.push_back(std::move(sequence));
  };
  constexpr std::string_view kShort = "\"\"\\\\\bb\ff\nn\rr\tt";  // a character and the letter behind the backslash
  for (size_t i = 0; i < kShort.size(); i += 2) {
    const auto c = static_cast<char32_t>(kShort[i]);
    if (intersects(node.chars, {{c, c}})) add(std::string{'\\', kShort[i + 1]});
  }
  for (char32_t c = 0; c < 0x20 && out.parts.empty(); ++c) {
    if (intersects(node.chars, {{c, c}})) add(cat("\\u00", c < 0x10 ? "0" : "1", kHex.substr(c & 15, 1)));
  }
  return out;
}

std::string repetition(int64_t min, int64_t max) {
  if (max == kUnbounded && min < 2) return min == 0 ? "*" : "+";
  if (min == 0 && max == 1) return "?";
  if (max == kUnbounded) return cat("{", min, ",}");
  return min == max ? cat("{", min, "}") : cat("{", min, ",", max, "}");
}

void print(std::string& out, const Node& node) {
  switch (node.kind) {
    case Node::Kind::kClass: return print_class(out, node.chars);
    case Node::Kind::kConcat:
      if (node.parts.empty()) out += "\"\"";
      for (size_t i = 0; i < node.parts.size(); ++i) {
        if (i > 0) out += ' ';
        print(out, node.parts[i]);
      }
      return;
    case Node::Kind::kAlternatives:
      out += '(';
      for (size_t i = 0; i < node.parts.size(); ++i) {
        if (i > 0) out += " | ";
        print(out, node.parts[i]);
      }
      out += ')';
      return;
    case Node::Kind::kRepeat: {
      if (node.max == 0) {
        out += "\"\"";
        return;
      }
      out += '(';
      print(out, node.parts[0]);
      out += ')';
      out += repetition(node.min, node.max);
      return;
    }
  }
}

}  // namespace

Result<std::string> regex_to_ebnf(std::string_view regex, RegexText text, RegexLength length,
                                  const RegexLimits& limits) {
  if (static_cast<int64_t>(regex.size()) > limits.max_bytes) {
    return invalid("the regular expression has more than ", limits.max_bytes, " bytes");
  }
  HEARTH_ASSIGN(Node node, Parser(regex, limits).parse());
  auto kept = keep_length(std::move(node), length);
  if (!kept) return invalid("the regular expression matches no text of that length, or none that can be told apart");
  node = std::move(*kept);
  if (positions(node, limits.max_positions) > limits.max_positions) {
    return invalid("the regular expression has more than ", limits.max_positions,
                   " characters and classes when its repetitions are written out");
  }
  const auto ambiguous = Automaton(node).exponentially_ambiguous();
  if (!ambiguous || *ambiguous) {
    return invalid("the regular expression ", ambiguous ? "matches some text in exponentially many ways"
                                                        : "is too large to be checked for ambiguity");
  }
  if (text == RegexText::kJsonString) node = in_json_string(std::move(node));
  std::string out;
  print(out, node);
  return out;
}

}  // namespace hearth
