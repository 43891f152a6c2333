// A buffer of what is not decided yet, and a state. A control token stands in the buffer between two bytes that UTF-8
// never has, so that one search finds both kinds of markers.
#include "formats/answer_parser.h"

#include <algorithm>

namespace hearth {
namespace {

using Pieces = std::vector<AnswerPiece>;
using Kind = AnswerPiece::Kind;

constexpr char kControlBegin = '\xFF', kControlEnd = '\xFE';

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

std::string marked(std::string_view control) { return cat(kControlBegin, control, kControlEnd); }

// A literal as it stands in the buffer.
std::string in_buffer(std::string_view literal, const ControlTokens& control_token) {
  std::string out;
  for (const LiteralPart& part : literal_parts(literal, control_token))
    out += part.token ? marked(part.text) : part.text;
  return out;
}

std::string trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

// Bytes at the end of `text` that may be the beginning of `marker`.
size_t begun(std::string_view text, std::string_view marker) {
  for (size_t length = std::min(text.size(), marker.size() - 1); length > 0; --length) {
    if (text.ends_with(marker.substr(0, length))) return length;
  }
  return 0;
}

void emit(Pieces& out, Kind kind, std::string_view text) {
  if (text.empty() && kind != Kind::kCall) return;
  if (kind != Kind::kCall && !out.empty() && out.back().kind == kind) {
    out.back().text += text;
  } else {
    out.push_back({kind, std::string(text)});
  }
}

// Text of one kind, without the white space at its ends where a marker stands there.
class Paragraph {
 public:
  explicit Paragraph(Kind kind) : kind_(kind) {}
  void begin() { at_begin_ = true; }
  // Control tokens in it are not shown.
  void add(std::string_view text, Pieces& out) {
    for (const char c : text) {
      if (c == kControlBegin) in_control_ = true;
      const bool shown = !in_control_;
      if (c == kControlEnd) in_control_ = false;
      if (!shown || (at_begin_ && is_space(c))) continue;
      at_begin_ = false;
      held_ += c;
    }
    size_t end = held_.size();
    while (end > 0 && is_space(held_[end - 1])) --end;
    emit(out, kind_, std::string_view(held_).substr(0, end));
    held_.erase(0, end);
  }
  void drop_space() { held_.clear(); }
  void finish(Pieces& out) {
    emit(out, kind_, held_);
    held_.clear();
  }

 private:
  const Kind kind_;
  bool at_begin_ = false, in_control_ = false;
  std::string held_;
};

// Finds the end of a JSON value that is an object.
class JsonEnd {
 public:
  // Bytes of `text` that belong to it; done() afterwards where it ended there.
  size_t take(std::string_view text) {
    begun_ = begun_ || !text.empty();
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (escaped_) {
        escaped_ = false;
      } else if (in_string_) {
        escaped_ = c == '\\';
        in_string_ = c != '"';
      } else if (c == '"') {
        in_string_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if ((c == '}' || c == ']') && --depth_ <= 0) {
        done_ = true;
        return i + 1;
      }
    }
    return text.size();
  }
  bool begun() const { return begun_; }
  bool done() const { return done_; }

 private:
  int64_t depth_ = 0;
  bool begun_ = false, in_string_ = false, escaped_ = false, done_ = false;
};

// As it stands in a JSON string; control tokens in it are not shown.
void append_escaped(std::string& out, std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == kControlBegin) {
      i = std::min(text.find(kControlEnd, i), text.size());
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += cat("\\u00", kHex.substr(static_cast<size_t>(c) >> 4, 1), kHex.substr(static_cast<size_t>(c) & 15, 1));
    } else {
      out += c;
    }
  }
}

std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  append_escaped(out, text);
  return out + '"';
}

class MarkerParser final : public AnswerParser {
 public:
  explicit MarkerParser(ParserOptions options) : options_(std::move(options)) {
    const auto spelled = [&](std::string_view literal) { return in_buffer(literal, options_.control_token); };
    if (const ReasoningFormat* reasoning = options_.format.reasoning; reasoning != nullptr && options_.may_reason) {
      reasoning_begin_ = spelled(reasoning->begin);
      reasoning_end_ = spelled(reasoning->end);
      state_ = options_.in_reasoning ? State::kReasoning : State::kStart;
      reasoning_.begin();
    }
    const CallFormat* calls = options_.format.calls;
    if (calls == nullptr || options_.tools.empty()) return;
    section_begin_ = spelled(calls->section_begin);
    section_end_ = spelled(calls->section_end);
    separator_ = trimmed(spelled(calls->separator));
    begin_ = spelled(calls->begin);
    middle_ = spelled(calls->middle);
    end_ = spelled(calls->end);
    const std::string& first = section_begin_.empty() ? begin_ : section_begin_;
    trigger_ = first.substr(0, trigger_length(first));
    if (!calls->parameters) return;
    parameter_begin_ = spelled(calls->parameters->begin);
    parameter_middle_ = spelled(calls->parameters->middle);
    parameter_end_ = spelled(calls->parameters->end);
  }

  void push(std::string_view text, Pieces& out) override {
    buffer_ += text;
    run(out, false);
  }
  void push_control(std::string_view name, Pieces& out) override {
    buffer_ += marked(name);
    run(out, false);
  }
  bool in_reasoning() const override { return state_ == State::kReasoning; }
  void finish(Pieces& out) override {
    run(out, true);
    reasoning_.finish(out);
    content_.finish(out);
  }

 private:
  enum class State {
    kStart,  // reasoning may begin
    kReasoning,
    kText,
    kSection,    // the rest of section_begin
    kCallBegin,  // the rest of begin
    kName,
    kMiddle,
    kJson,
    kParameter,  // the next one's begin, or the call's end
    kParameterName,
    kParameterMiddle,
    kValue,
    kCallEnd,
    kBetween,  // calls
  };
  enum class Match { kYes, kNo, kMore };

  static size_t trigger_length(std::string_view literal) {
    if (literal.front() == kControlBegin) return literal.find(kControlEnd) + 1;
    const size_t end = literal.find_first_of(">]");
    return end == std::string_view::npos ? literal.size() : end + 1;
  }

  // Whether the buffer begins with the literal; white space does not count.
  Match match(std::string_view literal, size_t& used) const {
    size_t at = 0;
    for (size_t i = 0; i < literal.size(); ++i) {
      if (is_space(literal[i])) continue;
      while (at < buffer_.size() && is_space(buffer_[at])) ++at;
      if (at == buffer_.size()) return Match::kMore;
      if (buffer_[at] != literal[i]) return Match::kNo;
      ++at;
    }
    used = at;
    return Match::kYes;
  }
  // The same, and takes it.
  Match take(std::string_view literal) {
    size_t used = 0;
    const Match out = match(literal, used);
    if (out == Match::kYes) buffer_.erase(0, used);
    return out;
  }
  // Takes it and goes on, or waits; false: nothing more can be done now. Where it does not match, all that comes is
  // text.
  bool expect(std::string_view literal, State next) {
    switch (take(literal)) {
      case Match::kYes: state_ = next; return true;
      case Match::kMore: return false;
      case Match::kNo:
        trigger_.clear();
        state_ = State::kText;
        return true;
    }
    return false;
  }

  void run(Pieces& out, bool at_end) {
    while (step(out, at_end)) {
    }
  }

  // False: more text is needed.
  bool step(Pieces& out, bool at_end) {
    switch (state_) {
      case State::kStart: {
        const Match begins = at_end ? Match::kNo : take(reasoning_begin_);
        if (begins == Match::kMore) return false;
        state_ = begins == Match::kYes ? State::kReasoning : State::kText;
        return true;
      }
      case State::kReasoning: return read_reasoning(out, at_end);
      case State::kText: return read_text(out, at_end);
      case State::kSection: return expect(rest_, State::kCallBegin) && prepare_call(begin_);
      case State::kCallBegin: return expect(rest_, State::kName);
      case State::kName: {
        size_t end = 0;
        while (end < buffer_.size() && is_name(buffer_[end])) ++end;
        name_ += buffer_.substr(0, end);
        buffer_.erase(0, end);
        if (buffer_.empty()) return false;
        state_ = State::kMiddle;
        return true;
      }
      case State::kMiddle:
        if (!expect(middle_, State::kJson)) return false;
        if (state_ == State::kJson) begin_call(out);
        return true;
      case State::kJson: return read_json(out);
      case State::kParameter: return read_parameter(out);
      case State::kParameterName: {
        // Up to what closes it: the first character of what follows, which no name has.
        const size_t end = buffer_.find(parameter_middle_.front());
        name_ += buffer_.substr(0, end);
        buffer_.erase(0, end);
        if (end == std::string::npos) return false;
        state_ = State::kParameterMiddle;
        return true;
      }
      case State::kParameterMiddle: return read_parameter_middle(out);
      case State::kValue: return read_value(out);
      case State::kCallEnd: return skip_id() && expect(end_, State::kBetween);
      case State::kBetween: return read_between(at_end);
    }
    return false;
  }

  // False: more text is needed.
  bool skip_id() {
    const std::string_view begin = options_.format.calls->id;
    size_t used = 0;
    const Match found = begin.empty() ? Match::kNo : match(begin, used);
    if (found == Match::kNo) return true;
    const size_t quote = found == Match::kYes ? buffer_.find('"', used) : std::string::npos;
    if (quote == std::string::npos) return false;
    buffer_.erase(0, quote + 1);
    return true;
  }

  bool read_reasoning(Pieces& out, bool at_end) {
    const size_t end = buffer_.find(reasoning_end_);
    const size_t shown = end != std::string::npos ? end
                         : at_end                 ? buffer_.size()
                                                  : buffer_.size() - begun(buffer_, reasoning_end_);
    reasoning_.add(std::string_view(buffer_).substr(0, shown), out);
    buffer_.erase(0, shown);
    if (end == std::string::npos) return false;
    reasoning_.drop_space();
    buffer_.erase(0, reasoning_end_.size());
    content_.begin();
    state_ = State::kText;
    return true;
  }

  bool read_text(Pieces& out, bool at_end) {
    if (trigger_.empty()) {
      content_.add(buffer_, out);
      buffer_.clear();
      return false;
    }
    if (options_.format.calls->only_at_start) return read_only_start(out, at_end);
    const size_t at = buffer_.find(trigger_);
    const size_t shown = at != std::string::npos ? at
                         : at_end                ? buffer_.size()
                                                 : buffer_.size() - begun(buffer_, trigger_);
    content_.add(std::string_view(buffer_).substr(0, shown), out);
    buffer_.erase(0, shown);
    if (at == std::string::npos) return false;
    content_.drop_space();
    begin_calls();
    return true;
  }

  // The whole begin, at the answer's beginning; what else is there makes it text for good.
  bool read_only_start(Pieces& out, bool at_end) {
    size_t used = 0;
    if (!is_text_ && !at_end) {
      while (!buffer_.empty() && is_space(buffer_[0])) buffer_.erase(0, 1);
      // A control token before it says that a call comes.
      if (!buffer_.empty() && buffer_[0] == kControlBegin) {
        const size_t end = buffer_.find(kControlEnd);
        buffer_.erase(0, end + 1);
      }
      switch (match(begin_, used)) {
        case Match::kMore: return false;
        case Match::kYes: begin_calls(); return true;
        case Match::kNo: is_text_ = true;
      }
    }
    content_.add(buffer_, out);
    buffer_.clear();
    return false;
  }

  void begin_calls() {
    if (!section_begin_.empty()) {
      rest_ = section_begin_;
      state_ = State::kSection;
    } else {
      prepare_call(begin_);
      state_ = State::kCallBegin;
    }
  }
  bool prepare_call(std::string_view literal) {
    rest_ = literal;
    name_.clear();
    return true;
  }

  void begin_call(Pieces& out) {
    emit(out, Kind::kCall, name_);
    tool_ = nullptr;
    for (const Tool& tool : options_.tools) {
      if (tool.name == name_) tool_ = &tool;
    }
    json_ = {};
    if (parameter_begin_.empty()) return;
    num_parameters_ = 0;
    emit(out, Kind::kArguments, "{");
    state_ = State::kParameter;
  }

  bool read_json(Pieces& out) {
    while (!json_.begun() && !buffer_.empty() && is_space(buffer_[0])) buffer_.erase(0, 1);
    if (buffer_.empty()) return false;
    const size_t taken = json_.take(buffer_);
    emit(out, Kind::kArguments, std::string_view(buffer_).substr(0, taken));
    buffer_.erase(0, taken);
    if (!json_.done()) return false;
    state_ = State::kCallEnd;
    return true;
  }

  bool read_parameter(Pieces& out) {
    size_t used = 0;
    const Match next = match(parameter_begin_, used), last = match(end_, used);
    if (next == Match::kYes) {
      name_.clear();
      return expect(parameter_begin_, State::kParameterName);
    }
    if (last == Match::kYes || (next == Match::kNo && last == Match::kNo)) {
      emit(out, Kind::kArguments, "}");
      state_ = State::kCallEnd;
      return true;
    }
    return false;
  }

  // A line end that the format puts before the value is not the value's; others are.
  bool read_parameter_middle(Pieces& out) {
    const std::string core = trimmed(parameter_middle_);
    size_t used = 0;
    const Match found = match(core, used);
    if (found == Match::kMore) return false;
    const bool line = parameter_middle_.ends_with('\n');
    if (line && found == Match::kYes && used == buffer_.size()) return false;
    buffer_.erase(0, found == Match::kYes ? used : 0);
    if (line && buffer_.starts_with('\n')) buffer_.erase(0, 1);
    const Json* schema = tool_ == nullptr ? nullptr : parameter_schema(tool_->parameters, name_);
    raw_ = schema != nullptr && value_style(*schema) == ValueStyle::kRaw;
    emit(out, Kind::kArguments, cat(num_parameters_++ > 0 ? ", " : "", json_quoted(name_), ": ", raw_ ? "\"" : ""));
    value_.clear();
    state_ = State::kValue;
    return true;
  }

  bool read_value(Pieces& out) {
    const std::string core = trimmed(parameter_end_);
    const size_t end = buffer_.find(core);
    size_t shown = end != std::string::npos ? end : buffer_.size() - begun(buffer_, core);
    // The line end before the value's end is the format's.
    const bool line = parameter_end_.starts_with('\n');
    if (line && shown > 0 && buffer_[shown - 1] == '\n') --shown;
    if (raw_) {
      std::string escaped;
      append_escaped(escaped, std::string_view(buffer_).substr(0, shown));
      emit(out, Kind::kArguments, escaped);
    } else {
      value_ += buffer_.substr(0, shown);
    }
    if (end == std::string::npos) {
      buffer_.erase(0, shown);
      return false;
    }
    buffer_.erase(0, end + core.size());
    if (raw_) {
      emit(out, Kind::kArguments, "\"");
    } else {
      const std::string json = trimmed(value_);
      emit(out, Kind::kArguments, Json::accept(json) ? json : json_quoted(json));
    }
    state_ = State::kParameter;
    return true;
  }

  bool read_between(bool at_end) {
    size_t used = 0;
    while (!buffer_.empty() && is_space(buffer_[0])) buffer_.erase(0, 1);
    if (!separator_.empty()) {
      const Match found = take(separator_);
      if (found == Match::kYes) return true;
      if (found == Match::kMore && !at_end) return false;
    }
    const Match next = match(begin_, used);
    if (next == Match::kYes) {
      prepare_call(begin_);
      state_ = State::kCallBegin;
      return true;
    }
    const Match last = section_end_.empty() ? Match::kNo : match(section_end_, used);
    if (last == Match::kYes) {
      take(section_end_);
      state_ = State::kText;
      content_.begin();
      return true;
    }
    if (!at_end && (next == Match::kMore || last == Match::kMore)) return false;
    state_ = State::kText;
    is_text_ = true;
    content_.begin();
    return true;
  }

  const ParserOptions options_;
  std::string reasoning_begin_, reasoning_end_;
  std::string trigger_, section_begin_, section_end_, separator_, begin_, middle_, end_;
  std::string parameter_begin_, parameter_middle_, parameter_end_;

  State state_ = State::kText;
  std::string buffer_;
  Paragraph content_{Kind::kContent}, reasoning_{Kind::kReasoning};
  std::string rest_, name_, value_;
  const Tool* tool_ = nullptr;
  JsonEnd json_;
  int64_t num_parameters_ = 0;
  bool raw_ = false, is_text_ = false;
};

// OpenAI's harmony: messages with a header, "analysis", "commentary to=functions.NAME" or "final", between control
// tokens.
class HarmonyParser final : public AnswerParser {
 public:
  explicit HarmonyParser(ParserOptions options) : may_call_(!options.tools.empty()) {}

  void push(std::string_view text, Pieces& out) override {
    switch (state_) {
      case State::kHeader: header_ += text; return;
      case State::kBetween: role_ += text; return;  // behind <|start|>
      case State::kBody: emit(out, kind_, text); return;
    }
  }

  void push_control(std::string_view name, Pieces& out) override {
    if (name == "<|channel|>") {
      header_.clear();
      state_ = State::kHeader;
    } else if (name == "<|message|>") {
      begin_message(out);
    } else if (name == "<|end|>" || name == "<|call|>" || name == "<|return|>" || name == "<|start|>") {
      role_.clear();
      state_ = State::kBetween;
    }
  }
  bool in_reasoning() const override { return state_ == State::kBody && kind_ == Kind::kReasoning; }
  void finish(Pieces&) override {}

 private:
  enum class State { kHeader, kBody, kBetween };

  void begin_message(Pieces& out) {
    constexpr std::string_view kTo = "to=functions.";
    // Behind the channel or, as some write it, behind the role.
    const std::string header = cat(header_, " ", role_);
    const size_t at = header.find(kTo);
    if (at != std::string::npos && may_call_) {
      size_t end = at + kTo.size();
      while (end < header.size() && is_name(header[end])) ++end;
      kind_ = Kind::kArguments;
      emit(out, Kind::kCall, std::string_view(header).substr(at + kTo.size(), end - at - kTo.size()));
    } else {
      kind_ = header_.starts_with("analysis") ? Kind::kReasoning : Kind::kContent;
    }
    state_ = State::kBody;
  }

  const bool may_call_;
  State state_ = State::kBetween;
  Kind kind_ = Kind::kContent;
  std::string role_, header_;
};

}  // namespace

std::unique_ptr<AnswerParser> make_answer_parser(ParserOptions options) {
  if (options.format.harmony) return std::make_unique<HarmonyParser>(std::move(options));
  return std::make_unique<MarkerParser>(std::move(options));
}

}  // namespace hearth
