// One pass over the text: strings, classes and comments are skipped, groups counted, repetitions multiplied.
#include "grammar/ebnf_check.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace hearth {

namespace {

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

// xgrammar recurses without end in some rules that refer to themselves, so none may.
Status check_references(std::string_view grammar) {
  std::map<std::string, std::set<std::string>, std::less<>> rules;
  std::set<std::string>* body = nullptr;
  for (size_t at = 0; at < grammar.size();) {
    const char c = grammar[at];
    if (c == '"' || c == '[') {
      for (++at; at < grammar.size() && grammar[at] != (c == '"' ? '"' : ']'); ++at) at += grammar[at] == '\\' ? 1 : 0;
      ++at;
    } else if (c == '#') {
      at = std::min(grammar.find('\n', at), grammar.size());
    } else if (c == '{') {
      at = std::min(grammar.find('}', at), grammar.size());
    } else if (is_name(c)) {
      const size_t begin = at;
      while (at < grammar.size() && is_name(grammar[at])) ++at;
      const std::string name(grammar.substr(begin, at - begin));
      if (at < grammar.size() && grammar[at] == '(') return invalid("the grammar has a macro, which is not supported");
      const size_t next = std::min(grammar.find_first_not_of(" \t\r\n", at), grammar.size());
      if (grammar.substr(next).starts_with("::=")) {
        body = &rules[name];
        at = next + 3;
        continue;
      }
      if (body != nullptr) body->insert(name);
    } else {
      ++at;
    }
  }
  // Rules that refer to no rule that is left go, until none does.
  for (bool changed = true; changed;) {
    changed = false;
    for (auto it = rules.begin(); it != rules.end();) {
      const bool waits = std::ranges::any_of(it->second, [&](const auto& name) { return rules.contains(name); });
      changed = changed || !waits;
      it = waits ? std::next(it) : rules.erase(it);
    }
  }
  if (!rules.empty()) return invalid("the grammar has a rule that refers to itself, which is not supported");
  return {};
}

}  // namespace

Status check_ebnf(std::string_view grammar, const EbnfLimits& limits) {
  if (static_cast<int64_t>(grammar.size()) > limits.max_bytes) {
    return invalid("the grammar has more than ", limits.max_bytes, " bytes");
  }
  // Of each open group: elements written out so far, and those of the element that a repetition would repeat.
  struct Group {
    int64_t sum = 0, last = 0;
  };
  std::vector<Group> groups(1);
  int64_t rules = 0;
  const auto element = [&](int64_t size) {
    groups.back().sum = std::min(groups.back().sum + size, limits.max_written_out + 1);
    groups.back().last = size;
  };
  const auto skip_to = [&](size_t& at, char end) {
    for (++at; at < grammar.size() && grammar[at] != end; ++at) {
      if (grammar[at] == '\\') ++at;
    }
  };
  for (size_t at = 0; at < grammar.size(); ++at) {
    const char c = grammar[at];
    if (c == '"' || c == '[') {
      const size_t begin = at;
      skip_to(at, c == '"' ? '"' : ']');
      element(c == '"' ? static_cast<int64_t>(at - begin) : 1);
    } else if (c == '#') {
      while (at < grammar.size() && grammar[at] != '\n') ++at;
    } else if (c == '(') {
      groups.emplace_back();
      if (static_cast<int64_t>(groups.size()) > limits.max_depth) {
        return invalid("the grammar has groups nested deeper than ", limits.max_depth);
      }
    } else if (c == ')') {
      if (groups.size() == 1) return invalid("the grammar has a parenthesis that closes nothing");
      const int64_t size = groups.back().sum;
      groups.pop_back();
      element(size);
    } else if (c == '{') {
      int64_t number = 0, most = 0;
      for (++at; at < grammar.size() && grammar[at] != '}'; ++at) {
        number =
            grammar[at] >= '0' && grammar[at] <= '9' ? std::min<int64_t>(number * 10 + grammar[at] - '0', 1 << 30) : 0;
        most = std::max(most, number);
      }
      const int64_t last = groups.back().last;
      if (most > limits.max_written_out / std::max<int64_t>(last, 1)) {
        return invalid("the grammar's repetitions, written out, have more than ", limits.max_written_out, " elements");
      }
      element(last * std::max<int64_t>(most - 1, 0));
      groups.back().last = last * most;
    } else if (c == ':' && grammar.substr(at).starts_with("::=")) {
      at += 2;
      if (++rules > limits.max_rules) return invalid("the grammar has more than ", limits.max_rules, " rules");
      groups.assign(1, {});
    } else if (c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '|' && c != '*' && c != '+' && c != '?') {
      if (groups.back().last != 0 || at == 0 || grammar[at - 1] == ' ') element(1);
    }
    if (groups.back().sum > limits.max_written_out) {
      return invalid("a rule of the grammar has more than ", limits.max_written_out, " elements");
    }
  }
  if (groups.size() > 1) return invalid("the grammar has a parenthesis that is not closed");
  return check_references(grammar);
}

}  // namespace hearth
