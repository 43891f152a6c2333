#include "text/end_of_turn.h"

#include <gtest/gtest.h>

#include "text/utf8.h"

namespace hearth {
namespace {

// Bytes, then control tokens.
std::unique_ptr<Tokenizer> tokenizer_with(const std::vector<std::string>& control) {
  Vocabulary v{.model = "gpt2", .pre = "gpt-2"};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    append_utf8(v.tokens.emplace_back(), prints ? static_cast<char32_t>(byte) : next++);
  }
  v.types.assign(256, 1);
  for (const std::string& text : control) {
    v.tokens.push_back(text);
    v.types.push_back(3);
  }
  v.eos = 256;
  return std::move(Tokenizer::from_vocabulary(v)).value();
}

std::optional<int32_t> found(const char* source) {
  static const auto tokenizer = tokenizer_with({"</s>", "<|im_end|>", "<|user|>", "<|im_start|>"});
  return end_of_turn(ChatTemplate::parse(source).value(), *tokenizer);
}

TEST(EndOfTurn, TheControlTokenBehindAnAnswer) {
  EXPECT_EQ(found("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"), 257);
  EXPECT_EQ(found("{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
                  " {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"),
            256);
  EXPECT_EQ(found("{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"), 258)
      << "the next turn's beginning";
  EXPECT_EQ(found("{% for m in messages %}{{ m.content }}{{ '</s>' if not loop.last }}{% endfor %}"), 256);
  EXPECT_EQ(found("{% if tools is none %}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{% endif %}"),
            257);
}

TEST(EndOfTurn, NoneWhereThereIsNoControlToken) {
  EXPECT_EQ(found("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"), std::nullopt);
  EXPECT_EQ(found("{% for m in messages %}{{ m.content }}.</s>{% endfor %}"), std::nullopt);
  EXPECT_EQ(found("{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}"), std::nullopt);
  EXPECT_EQ(found("{{ raise_exception('no') }}"), std::nullopt);
  EXPECT_EQ(found("{{ messages[0].content }}"), std::nullopt);
}

}  // namespace
}  // namespace hearth
