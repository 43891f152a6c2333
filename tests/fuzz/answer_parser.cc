// Fuzz target, one a format of calls: any text, with and without control tokens, is taken apart the same however it is
// cut, and nothing of it comes twice. HEARTH_FORMAT is the format's name.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "formats/answer_parser.h"
#include "grammar/json_schema.h"
#include "text/utf8.h"

#include <algorithm>

using namespace hearth;

namespace {

// Every marker is a control token, or none is.
std::optional<int32_t> any_marker(std::string_view) { return 1; }

std::vector<AnswerPiece> parsed(const ParserOptions& options, std::string_view text, size_t cut) {
  const auto parser = make_answer_parser(options);
  std::vector<AnswerPiece> out;
  const auto take = [&](auto&& push) {
    std::vector<AnswerPiece> news;
    push(news);
    for (AnswerPiece& piece : news) {
      if (piece.kind != AnswerPiece::Kind::kCall && !out.empty() && out.back().kind == piece.kind) {
        out.back().text += piece.text;
      } else {
        out.push_back(std::move(piece));
      }
    }
  };
  for (const LiteralPart& part : literal_parts(text, options.control_token)) {
    if (part.token) {
      take([&](auto& news) { parser->push_control(part.text, news); });
      continue;
    }
    const std::string_view rest = part.text;
    for (size_t at = 0; at < rest.size();) {
      size_t end = std::min(at + cut, rest.size());
      while (end < rest.size() && (rest[end] & 0xC0) == 0x80) ++end;  // whole characters
      take([&](auto& news) { parser->push(rest.substr(at, end - at), news); });
      at = end;
    }
  }
  take([&](auto& news) { parser->finish(news); });
  return out;
}

}  // namespace

// The first byte: which options; the rest is the text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const AnswerFormat format =
      choose_format(HEARTH_FORMAT, HEARTH_FORMAT == std::string_view("harmony") ? "harmony" : "think", "").value();
  static const Tool tool{"f", plain_schema(parse_json(R"({"type":"object","properties":{"s":{"type":"string"},
      "n":{"type":"integer"},"e":{"enum":["a","b"]},"l":{"type":"array"},"d":{"type":"string","format":"date"}}})")
                                               .value())
                                  .value()};
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (!valid_utf8(text)) return 0;  // a detokenizer gives nothing else
  ParserOptions options{format, {}, {}, (data[0] & 1) != 0, (data[0] & 2) != 0};
  if ((data[0] & 4) != 0) options.control_token = any_marker;
  if ((data[0] & 8) != 0) options.tools = {tool};
  const auto whole = parsed(options, text, text.size() + 1);
  HEARTH_CHECK(parsed(options, text, 1) == whole);
  HEARTH_CHECK(parsed(options, text, 2 + data[0] % 7) == whole);
  int64_t length = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    length += std::ssize(whole[i].text);
    const bool call = whole[i].kind == AnswerPiece::Kind::kCall;
    HEARTH_CHECK(!call || (!options.tools.empty() && !whole[i].text.empty()));
    HEARTH_CHECK(whole[i].kind != AnswerPiece::Kind::kArguments ||
                 (i > 0 && whole[i - 1].kind == AnswerPiece::Kind::kCall));
  }
  // Escapes of JSON make a text longer, at most by six.
  HEARTH_CHECK(length <= 6 * std::ssize(text) + 64);
  return 0;
}
