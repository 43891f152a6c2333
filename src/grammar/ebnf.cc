// A recursive descent into a tree a rule; what rules begin with and whether they can end is found by going on until
// nothing changes.
#include "grammar/ebnf.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace hearth {
namespace {

constexpr int64_t kUnbounded = -1;

struct Node {
  enum class Kind { kSequence, kChoice, kRepeat, kLiteral, kRule };
  Kind kind = Kind::kSequence;  // without parts: the empty text
  std::vector<Node> parts;
  int64_t min = 0, max = 0;  // kRepeat
  std::string text;          // kLiteral: a string or a class, as it stands
  size_t rule = 0;
};

struct Rule {
  std::string_view name;
  std::optional<Node> body;  // none: named, not defined so far
};

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

class Parser {
 public:
  Parser(std::string_view grammar, const EbnfLimits& limits) : grammar_(grammar), limits_(limits) {}

  Result<std::vector<Rule>> parse() {
    index_of("root");
    skip_space();
    while (more()) rule();
    if (status_.ok()) {
      if (!rules_[0].body) refuse("has no rule root");
      if (std::ranges::any_of(rules_, [](const Rule& rule) { return !rule.body; }))
        refuse("names a rule that it does not define");
    }
    if (!status_.ok()) return status_;
    return std::move(rules_);
  }

 private:
  void refuse(std::string_view why) {
    if (!status_.ok()) return;
    const std::string_view before = grammar_.substr(0, at_);
    status_ = invalid("the grammar ", why, " (line ", std::ranges::count(before, '\n') + 1, ")");
  }
  bool more() const { return status_.ok() && at_ < grammar_.size(); }
  char peek() const { return at_ < grammar_.size() ? grammar_[at_] : '\0'; }
  void skip_space() {
    while (at_ < grammar_.size()) {
      const char c = grammar_[at_];
      if (c == '#') {
        at_ = std::min(grammar_.find_first_of("\r\n", at_), grammar_.size());
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++at_;
      } else {
        return;
      }
    }
  }
  bool take(std::string_view text) {
    if (!grammar_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    skip_space();
    return true;
  }
  std::string_view name() {
    const size_t begin = at_;
    while (is_name(peek())) ++at_;
    const std::string_view out = grammar_.substr(begin, at_ - begin);
    if (out.empty()) refuse("has a character where a rule's name should be");
    if (peek() == '(') refuse("has a macro, which is not supported");
    skip_space();
    return out;
  }
  // Whether `name ::=` comes next.
  bool at_rule() const {
    size_t at = at_;
    while (at < grammar_.size() && is_name(grammar_[at])) ++at;
    if (at == at_) return false;
    at = std::min(grammar_.find_first_not_of(" \t\r\n", at), grammar_.size());
    return grammar_.substr(at).starts_with("::=");
  }
  size_t index_of(std::string_view name) {
    const auto [it, added] = indices_.emplace(name, rules_.size());
    if (added) rules_.push_back({name, std::nullopt});
    if (std::ssize(rules_) > limits_.max_rules) refuse(cat("has more than ", limits_.max_rules, " rules"));
    return it->second;
  }

  void rule() {
    const size_t index = index_of(name());
    if (peek() == '[') refuse("has options of a rule, which are not supported");
    if (!take("::=")) refuse("has no ::= behind a rule's name");
    if (!status_.ok()) return;
    if (rules_[index].body) return refuse("defines a rule twice");
    Node body = choice(0);
    if (peek() == ')') refuse("has a parenthesis that closes nothing");
    if (status_.ok() && size_of(body) > limits_.max_written_out) {
      refuse(cat("has a rule of more than ", limits_.max_written_out, " elements, repetitions written out"));
    }
    rules_[index].body = std::move(body);
  }

  Node choice(int64_t depth) {
    Node out{.kind = Node::Kind::kChoice};
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
    while (more() && peek() != '|' && peek() != ')' && !at_rule()) out.parts.push_back(repeated(element(depth)));
    return out;
  }

  Node element(int64_t depth) {
    if (take("(")) {
      if (peek() == '=') refuse("has a look-ahead, which is not supported");
      Node inner = choice(depth + 1);
      if (status_.ok() && !take(")")) refuse("has a parenthesis that is not closed");
      return inner;
    }
    Node out{.kind = Node::Kind::kLiteral};
    const char open = peek();
    if (open == '"' || open == '[') {
      const size_t begin = at_++;
      for (; more() && peek() != (open == '"' ? '"' : ']') && (open == '[' || peek() != '\n'); ++at_) {
        if (peek() == '\\') ++at_;
      }
      if (peek() != (open == '"' ? '"' : ']')) {
        refuse(open == '"' ? "has a string that is not closed" : "has a class that is not closed");
        return out;
      }
      out.text = grammar_.substr(begin, ++at_ - begin);
      skip_space();
      return out;
    }
    out.kind = Node::Kind::kRule;
    const std::string_view rule_name = name();
    if (status_.ok()) out.rule = index_of(rule_name);
    return out;
  }

  Node repeated(Node one) {
    while (more()) {
      Node out{.kind = Node::Kind::kRepeat};
      if (take("*")) {
        out.max = kUnbounded;
      } else if (take("+")) {
        out.min = 1, out.max = kUnbounded;
      } else if (take("?")) {
        out.max = 1;
      } else if (take("{")) {
        out.min = out.max = number();
        if (take(",")) out.max = peek() == '}' ? kUnbounded : number();
        if (!take("}") || (out.max != kUnbounded && out.max < out.min)) {
          refuse("has a repetition that is not {n}, {n,} or {n,m}");
        }
      } else {
        return one;
      }
      out.parts.push_back(std::move(one));
      one = std::move(out);
      if (++stacked_ > limits_.max_depth) refuse("repeats repetitions too often");
    }
    stacked_ = 0;
    return one;
  }
  int64_t number() {
    int64_t out = 0;
    const size_t begin = at_;
    for (; peek() >= '0' && peek() <= '9'; ++at_) out = std::min<int64_t>(out * 10 + (peek() - '0'), 1 << 30);
    if (at_ == begin) refuse("has a repetition that is not {n}, {n,} or {n,m}");
    skip_space();
    return out;
  }

  // Elements, and characters of strings, with repetitions written out; at most one more than the limit.
  int64_t size_of(const Node& node) const {
    const int64_t most = limits_.max_written_out + 1;
    if (node.kind == Node::Kind::kLiteral && node.text[0] == '"') return std::min(std::ssize(node.text) - 1, most);
    int64_t sum = node.parts.empty() ? 1 : 0;
    for (const Node& part : node.parts) sum = std::min(sum + size_of(part), most);
    if (node.kind != Node::Kind::kRepeat) return sum;
    const int64_t times = std::max<int64_t>({node.min, node.max, 1});
    return sum > most / times ? most : sum * times;
  }

  const std::string_view grammar_;
  const EbnfLimits& limits_;
  size_t at_ = 0;
  int64_t stacked_ = 0;
  Status status_;
  std::map<std::string_view, size_t> indices_;
  std::vector<Rule> rules_;
};

bool is_itself(const Node& node, size_t rule) {
  return node.kind == Node::Kind::kSequence && !node.parts.empty() && node.parts[0].kind == Node::Kind::kRule &&
         node.parts[0].rule == rule;
}

// a ::= a x | b becomes a ::= b x*.
void repeat_in_place_of_beginning_with_itself(Rule& rule, size_t index) {
  Node& body = *rule.body;
  Node first{.kind = Node::Kind::kChoice}, more{.kind = Node::Kind::kChoice};
  std::vector<Node> options;
  if (body.kind == Node::Kind::kChoice) {
    options = std::move(body.parts);
  } else {
    options.push_back(std::move(body));
  }
  for (Node& option : options) {
    if (!is_itself(option, index)) {
      first.parts.push_back(std::move(option));
    } else if (option.parts.size() > 1) {  // `a ::= a` says nothing
      option.parts.erase(option.parts.begin());
      more.parts.push_back(std::move(option));
    }
  }
  if (more.parts.empty()) {
    body = std::move(first);
    return;
  }
  Node repeat{.kind = Node::Kind::kRepeat, .max = kUnbounded};
  repeat.parts.push_back(std::move(more));
  body = Node{};
  body.parts.push_back(std::move(first));
  body.parts.push_back(std::move(repeat));
}

// Whether a node can be text, given which rules can: all text, or the empty one alone.
bool can_be(const Node& node, const std::vector<bool>& rules, bool empty_only) {
  const auto can = [&](const Node& part) { return can_be(part, rules, empty_only); };
  switch (node.kind) {
    case Node::Kind::kSequence: return std::ranges::all_of(node.parts, can);
    case Node::Kind::kChoice: return std::ranges::any_of(node.parts, can);
    case Node::Kind::kRepeat: return node.min == 0 || can(node.parts[0]);
    case Node::Kind::kLiteral: return !empty_only || node.text == "\"\"";
    case Node::Kind::kRule: return rules[node.rule];
  }
  return false;
}
std::vector<bool> rules_that_can_be(const std::vector<Rule>& rules, bool empty_only) {
  std::vector<bool> out(rules.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < rules.size(); ++i) {
      if (out[i] || !can_be(*rules[i].body, out, empty_only)) continue;
      out[i] = changed = true;
    }
  }
  return out;
}

// The rules that a node may begin with.
void begins_with(const Node& node, const std::vector<bool>& may_be_empty, std::vector<size_t>& out) {
  if (node.kind == Node::Kind::kRule) out.push_back(node.rule);
  for (const Node& part : node.parts) {
    begins_with(part, may_be_empty, out);
    if (node.kind == Node::Kind::kSequence && !can_be(part, may_be_empty, true)) return;
  }
}

Status check(const std::vector<Rule>& rules) {
  const auto ends = rules_that_can_be(rules, false);
  if (std::ranges::find(ends, false) != ends.end()) return invalid("the grammar has a rule that never ends");
  const auto may_be_empty = rules_that_can_be(rules, true);
  std::vector<std::vector<size_t>> first(rules.size());
  for (size_t i = 0; i < rules.size(); ++i) {
    begins_with(*rules[i].body, may_be_empty, first[i]);
    std::ranges::sort(first[i]);
    first[i].erase(std::unique(first[i].begin(), first[i].end()), first[i].end());
  }
  // Rules that begin with none that is left go, until none does.
  std::vector<size_t> waits(rules.size());
  std::vector<std::vector<size_t>> waited_for(rules.size());
  std::vector<size_t> free;
  for (size_t i = 0; i < rules.size(); ++i) {
    waits[i] = first[i].size();
    for (const size_t one : first[i]) waited_for[one].push_back(i);
    if (waits[i] == 0) free.push_back(i);
  }
  size_t gone = 0;
  while (!free.empty()) {
    const size_t one = free.back();
    free.pop_back();
    ++gone;
    for (const size_t other : waited_for[one]) {
      if (--waits[other] == 0) free.push_back(other);
    }
  }
  if (gone < rules.size()) return invalid("the grammar has a rule that begins with itself through others");
  return {};
}

class Printer {
 public:
  Printer(EbnfWriter& writer, size_t rules) : writer_(writer) {
    for (size_t i = 0; i < rules; ++i) names_.push_back(writer_.reserve());
  }
  std::string print(const std::vector<Rule>& rules) {
    for (size_t i = 0; i < rules.size(); ++i) writer_.define(names_[i], text(*rules[i].body));
    return names_[0];
  }

 private:
  std::string text(const Node& node) const {
    switch (node.kind) {
      case Node::Kind::kSequence: return node.parts.empty() ? "\"\"" : joined(node.parts, " ");
      case Node::Kind::kChoice: return cat("(", joined(node.parts, " | "), ")");
      case Node::Kind::kLiteral: return node.text;
      case Node::Kind::kRule: return names_[node.rule];
      case Node::Kind::kRepeat: break;
    }
    if (node.max == 0) return "\"\"";
    const std::string one = cat("(", text(node.parts[0]), ")");
    if (node.max == kUnbounded && node.min < 2) return cat(one, node.min == 0 ? "*" : "+");
    return cat(one, "{", node.min, ",", node.max == kUnbounded ? std::string() : cat(node.max), "}");
  }
  std::string joined(const std::vector<Node>& parts, std::string_view between) const {
    std::string out;
    for (const Node& part : parts) out += cat(out.empty() ? "" : between, text(part));
    return out;
  }

  EbnfWriter& writer_;
  std::vector<std::string> names_;
};

}  // namespace

Result<std::string> write_ebnf(EbnfWriter& writer, std::string_view grammar, const EbnfLimits& limits) {
  if (std::ssize(grammar) > limits.max_bytes) return invalid("the grammar has more than ", limits.max_bytes, " bytes");
  HEARTH_ASSIGN(std::vector<Rule> rules, Parser(grammar, limits).parse());
  for (size_t i = 0; i < rules.size(); ++i) repeat_in_place_of_beginning_with_itself(rules[i], i);
  HEARTH_TRY(check(rules));
  return Printer(writer, rules.size()).print(rules);
}

}  // namespace hearth
