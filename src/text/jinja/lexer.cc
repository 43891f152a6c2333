// Alternates between plain text and tags; a tag's end decides what white space after it goes.
#include "text/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/python_text.h"
#include "text/utf8.h"

namespace hearth::jinja {
namespace {

using Kind = Token::Kind;

std::string unix_lines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(unix_lines(source)), rest_(source_) {}

  Result<std::vector<Token>> run() {
    while (at_ < rest_.size()) {
      const size_t tag = next_tag();
      const std::string_view data = rest_.substr(at_, tag - at_);
      if (tag == rest_.size()) {
        add_data(data);
        at_ = tag;
        break;
      }
      const char kind = rest_[tag + 1], modifier = tag + 2 < rest_.size() ? rest_[tag + 2] : '\0';
      add_data(modifier == '-' ? trim_end(data) : kind != '{' && modifier != '+' ? without_indent(data) : data);
      at_ = tag + 2 + (modifier == '-' || modifier == '+');
      line_starting_ = false;
      if (kind == '#') {
        HEARTH_TRY(skip_comment());
      } else if (kind == '%' && raw_follows("raw")) {
        HEARTH_TRY(read_raw());
      } else {
        HEARTH_TRY(read_tag(kind == '{'));
      }
    }
    add(Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  size_t next_tag() const {
    for (size_t at = at_; (at = rest_.find('{', at)) != rest_.npos; ++at) {
      if (at + 1 < rest_.size() && (rest_[at + 1] == '{' || rest_[at + 1] == '%' || rest_[at + 1] == '#')) return at;
    }
    return rest_.size();
  }

  // lstrip_blocks: what stands between the line's beginning and a tag goes if it is white space only.
  std::string_view without_indent(std::string_view data) const {
    const size_t line = data.rfind('\n') + 1;  // npos + 1 is 0
    if (line == 0 && !line_starting_) return data;
    return trim_end(data.substr(line)).empty() ? data.substr(0, line) : data;
  }

  Status error(std::string_view what) const { return invalid("chat template: line ", line_, ": ", what); }

  Token& add(Kind kind, std::string text = {}) {
    tokens_.push_back({.kind = kind, .text = std::move(text), .line = line_});
    return tokens_.back();
  }
  void add_data(std::string_view data) {
    if (!data.empty()) add(Kind::kData, std::string(data));
    count_lines(rest_.substr(at_, data.size()));
  }
  void count_lines(std::string_view text) { line_ += static_cast<int>(std::ranges::count(text, '\n')); }

  // Behind "%}" or the like, whose modifier stands before it: "-" takes all white space, else a block takes one
  // newline.
  void after_tag(char modifier, bool trims_newline) {
    const size_t begin = at_;
    if (modifier == '-') {
      at_ = rest_.size() - trim_begin(rest_.substr(at_)).size();
    } else if (trims_newline && modifier != '+' && at_ < rest_.size() && rest_[at_] == '\n') {
      ++at_;
    }
    count_lines(rest_.substr(begin, at_ - begin));
    line_starting_ = at_ > begin && rest_[at_ - 1] == '\n';
  }

  Status skip_comment() {
    const size_t end = rest_.find("#}", at_);
    if (end == rest_.npos) return error("a comment without end");
    const char modifier = end > at_ ? rest_[end - 1] : '\0';
    count_lines(rest_.substr(at_, end - at_));
    at_ = end + 2;
    after_tag(modifier, true);
    return {};
  }

  // At the inside of a tag: is it "{% word %}"?  Then at_ moves behind it.
  bool raw_follows(std::string_view word) {
    std::string_view inside = trim_begin(rest_.substr(at_));
    if (!inside.starts_with(word)) return false;
    inside = trim_begin(inside.substr(word.size()));
    const char modifier = inside.empty() ? '\0' : inside[0];
    if (modifier == '-' || modifier == '+') inside.remove_prefix(1);
    if (!inside.starts_with("%}")) return false;
    at_ = rest_.size() - inside.size() + 2;
    after_tag(modifier, word == "endraw");
    return true;
  }

  Status read_raw() {
    const size_t begin = at_;
    for (size_t tag = at_; (tag = rest_.find("{%", tag)) != rest_.npos; ++tag) {
      const char modifier = tag + 2 < rest_.size() ? rest_[tag + 2] : '\0';
      at_ = tag + 2 + (modifier == '-' || modifier == '+');
      if (!raw_follows("endraw")) continue;
      const std::string_view data = rest_.substr(begin, tag - begin);
      const std::string_view kept = modifier == '-' ? trim_end(data) : modifier != '+' ? without_indent(data) : data;
      if (!kept.empty()) add(Kind::kData, std::string(kept));
      return {};
    }
    return error("raw without endraw");
  }

  Status read_tag(bool variable) {
    const std::string_view closing = variable ? "}}" : "%}";
    std::string open;  // brackets
    add(variable ? Kind::kVariableBegin : Kind::kBlockBegin);
    while (true) {
      while (at_ < rest_.size() && is_python_space(static_cast<unsigned char>(rest_[at_]))) {
        line_ += rest_[at_] == '\n';
        ++at_;
      }
      if (at_ >= rest_.size()) return error("a tag without end");
      const std::string_view here = rest_.substr(at_);
      const bool modified = (here[0] == '-' || (here[0] == '+' && !variable)) && here.substr(1).starts_with(closing);
      if (open.empty() && (modified || here.starts_with(closing))) {
        at_ += closing.size() + modified;
        add(variable ? Kind::kVariableEnd : Kind::kBlockEnd);
        after_tag(modified ? here[0] : '\0', !variable);
        return {};
      }
      if (is_name_start(here[0])) {
        const size_t end =
            std::ranges::find_if(here, [](char c) { return !is_name_start(c) && !is_digit(c); }) - here.begin();
        add(Kind::kName, std::string(here.substr(0, end)));
        at_ += end;
      } else if (is_digit(here[0])) {
        HEARTH_TRY(read_number());
      } else if (here[0] == '\'' || here[0] == '"') {
        HEARTH_TRY(read_string());
      } else {
        HEARTH_TRY(read_operator(open));
      }
    }
  }

  Status read_operator(std::string& open) {
    constexpr std::string_view kLong[] = {"//", "**", "==", "!=", ">=", "<="};
    const std::string_view here = rest_.substr(at_);
    for (const std::string_view op : kLong) {
      if (here.starts_with(op)) {
        add(Kind::kOperator, std::string(op));
        at_ += op.size();
        return {};
      }
    }
    const char c = here[0];
    if (std::string_view("+-/*%~[](){}><=.:|,").find(c) == std::string_view::npos)
      return error("an unexpected character");
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (!open.ends_with(c)) return error("an unexpected bracket");
      open.pop_back();
    }
    add(Kind::kOperator, std::string(1, c));
    ++at_;
    return {};
  }

  Status read_number() {
    std::string digits;
    bool real = false;
    size_t i = at_;
    const auto take_digits = [&] {
      while (i < rest_.size() && (is_digit(rest_[i]) || (rest_[i] == '_' && is_digit(rest_[i - 1])))) {
        if (rest_[i] != '_') digits += rest_[i];
        ++i;
      }
    };
    take_digits();
    if (i + 1 < rest_.size() && rest_[i] == '.' && is_digit(rest_[i + 1])) {
      real = true;
      digits += rest_[i++];
      take_digits();
    }
    if (i < rest_.size() && (rest_[i] == 'e' || rest_[i] == 'E')) {
      const size_t exponent = i + 1 + (i + 1 < rest_.size() && (rest_[i + 1] == '+' || rest_[i + 1] == '-'));
      if (exponent < rest_.size() && is_digit(rest_[exponent])) {
        real = true;
        digits += 'e';
        if (rest_[i + 1] == '-') digits += '-';
        i = exponent;
        take_digits();
      }
    }
    Token& token = add(real ? Kind::kReal : Kind::kInteger);
    const char* end = digits.data() + digits.size();
    const auto parsed =
        real ? std::from_chars(digits.data(), end, token.real) : std::from_chars(digits.data(), end, token.integer);
    if (parsed.ec != std::errc() || parsed.ptr != end) return error("a number out of range");
    at_ = i;
    return {};
  }

  Status read_string() {
    const char quote = rest_[at_];
    std::string text;
    for (size_t i = at_ + 1; i < rest_.size();) {
      const char c = rest_[i];
      if (c == quote) {
        count_lines(rest_.substr(at_, i - at_));
        add(Kind::kString, std::move(text));
        at_ = i + 1;
        return {};
      }
      if (c != '\\' || i + 1 >= rest_.size()) {
        text += c;
        ++i;
        continue;
      }
      HEARTH_TRY(read_escape(i, text));
    }
    return error("a string without end");
  }

  // Python's escapes; at the backslash. An unknown one stays as it is.
  Status read_escape(size_t& i, std::string& text) const {
    constexpr std::string_view kNames = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const char c = rest_[i + 1];
    if (const size_t known = kNames.find(c); known != kNames.npos) {
      text += kMeanings[known];
      i += 2;
    } else if (c == '\n') {
      i += 2;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::string_view hex = rest_.substr(i + 2, digits);
      uint32_t value = 0;
      const auto parsed = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
      if (hex.size() != digits || parsed.ptr != hex.data() + digits || value > 0x10FFFF || (value >> 11) == 0x1B) {
        return error("a malformed escape");
      }
      append_utf8(text, value);
      i += 2 + digits;
    } else if (c >= '0' && c <= '7') {
      uint32_t value = 0;
      size_t end = i + 1;
      while (end < rest_.size() && end < i + 4 && rest_[end] >= '0' && rest_[end] <= '7') {
        value = value * 8 + static_cast<uint32_t>(rest_[end++] - '0');
      }
      append_utf8(text, value);
      i = end;
    } else {
      text += '\\';
      ++i;
    }
    return {};
  }

  const std::string source_;
  const std::string_view rest_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace hearth::jinja
