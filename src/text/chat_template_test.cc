#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace hearth {
namespace {

Json chat(const std::string& content) {
  return {
      {"messages", {{{"role", "user"}, {"content", content}}}}, {"bos_token", "<s>"}, {"add_generation_prompt", true}};
}

std::string refusal(std::string_view source, const Json& variables = Json::object(), const RenderLimits& limits = {}) {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed.ok()) return parsed.status().message();
  const auto rendered = parsed->render(variables, 0, limits);
  return rendered.ok() ? "" : rendered.status().message();
}

TEST(ChatTemplate, MarksWhatCameFromTheRequest) {
  const auto parsed = ChatTemplate::parse(
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim | upper }}{{ m.content[1:3] ~ '|' "
      "}}"
      "{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  const auto rendered = parsed->render(chat("  <s> x "), 0);
  ASSERT_TRUE(rendered.ok());
  EXPECT_EQ(rendered->text, "<s><|user|><S> X <|");
  std::string marked;
  for (const auto& range : rendered->from_request) {
    marked += cat('[', rendered->text.substr(range.begin, range.end - range.begin), ']');
  }
  EXPECT_EQ(marked, "[<S> X <]");
}

TEST(ChatTemplate, ARoleThatIsNoWordIsMarked) {
  const auto parsed = ChatTemplate::parse("{{ messages[0].role }}");
  const auto rendered = parsed->render({{"messages", {{{"role", "a|><|b"}}}}}, 0);
  ASSERT_EQ(rendered->from_request.size(), 1u);
}

TEST(ChatTemplate, RaiseExceptionIsARefusalInTheTemplatesWords) {
  const auto parsed =
      ChatTemplate::parse("{% if messages | length == 1 %}{{ raise_exception('One is too few!') }}{% endif %}");
  const auto rendered = parsed->render(chat("x"), 0);
  EXPECT_EQ(rendered.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(rendered.status().message(), "One is too few!");
}

TEST(ChatTemplate, RaiseExceptionDoesNotRepeatTheRequest) {
  const auto parsed = ChatTemplate::parse(
      "{{ raise_exception('Role ' ~ messages[0].role ~ ' said\n' ~ messages[0].content ~ '!' ~ 'x' * 5000) }}");
  const std::string message = parsed->render(chat(std::string(100'000, 's')), 0).status().message();
  EXPECT_TRUE(message.starts_with("Role user said ...!xxx")) << message;
  EXPECT_EQ(message.size(), 1000u);
}

TEST(ChatTemplate, MalformedTemplatesAreRefused) {
  for (const char* source :
       {"{{", "{% if x %}", "{% endif %}", "{{ x", "{{ 'a }}", "{{ a b }}", "{% for x %}{% endfor %}", "{# never",
        "{{ (1 }}", "{% include 'x' %}", "{{ 99999999999999999999 }}", "{% break %}", "{{ \xFF }}", "{% raw %}",
        "{{ a[1:2:3:4] }}"}) {
    EXPECT_NE(refusal(source), "") << source;
  }
}

TEST(ChatTemplate, ErrorsOfTheEvaluator) {
  for (const char* source :
       {"{{ x.y.z }}", "{{ 1 + 'a' }}", "{{ nothing() }}", "{{ 1 / 0 }}", "{{ 'a' | unknown }}", "{{ 1 is unknown }}",
        "{% set x.y = 1 %}", "{{ 9223372036854775807 + 1 }}", "{{ messages.append(1) }}", "{{ {}.update(a=1) }}"}) {
    EXPECT_NE(refusal(source, {{"messages", Json::array()}}), "") << source;
  }
}

TEST(ChatTemplate, Bounds) {
  const RenderLimits small{.max_steps = 100'000, .max_output_bytes = 1000};
  for (const char* source :
       {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "{{ range(1000000000) }}",
        "{% for i in range(1000) %}xxxxxxxxxx{% endfor %}", "{{ 'x' * 1000000000000 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = b %}{% set b.x = a %}"}) {
    EXPECT_NE(refusal(source, Json::object(), small), "") << source;
  }
  EXPECT_NE(refusal(cat("{{ ", std::string(100'000, '('), " }}")), "");
  EXPECT_NE(refusal(cat("{{ ", std::string(100'000, '-'), "1 }}")), "");
  std::string chain = "{{ 1", blocks, unary = "{{ ", elifs = "{% if a %}";
  for (int i = 0; i < 10'000; ++i) {
    chain += " + 1";
    blocks += "{% if a %}";
    unary += "not ";
    elifs += "{% elif a %}";
  }
  EXPECT_NE(refusal(chain + " }}"), "");
  EXPECT_NE(refusal(blocks), "");
  EXPECT_NE(refusal(unary + "1 }}"), "");
  EXPECT_NE(refusal(elifs + "{% endif %}"), "");
}

// What multiplies text or items is refused before it is made.
TEST(ChatTemplate, BytesOfAllStringsAndListsAreBounded) {
  EXPECT_NE(refusal("{{ ('a' * 100000).replace('', 'b' * 100000) }}"), "") << "under the default limits";
  const RenderLimits small{.max_bytes = 32 << 20};
  for (const char* source :
       {"{{ ('a' * 100000).replace('', 'b' * 100000) }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
        "{{ ('a,' * 100000).split(',') | join('b' * 100000) }}",
        "{{ ('b' * 100000).join(('a,' * 100000).split(',')) }}",
        "{{ ('a\n' * 100000) | indent(1000) }}",
        "{{ ('a\n' * 100000) | indent('b' * 100000) }}",
        "{{ 'a' * 9223372036854775807 }}",
        "{{ [1] * 9223372036854775807 }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ [1] | batch(1000000000, 0) | list }}",
        "{{ [1] | slice(1000000000, 0) | list }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ ('{0}' * 1000).format('a' * 1000000) }}",
        "{{ ('%(a)s' * 1000) % {'a': 'a' * 1000000} }}",
        "{{ 'a' | indent(1000000000) }}",
        "{{ [1] | tojson(indent=1000000000) }}",
        "{{ 2.5 | round(1000000000) }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(1000) %}{% set t = s.partition('b') %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for x in [s] * 1000 %}{% set t = x.title() %}{% endfor %}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ ('\u02b0' * 100000 ~ '\u03a3' * 100000 ~ '\u02b0' * 100000) * 10 | lower }}",
        "{{ ('a' * 1000000) | list | length }}",
        "{{ ('a' * 1000000).split('a') | length }}",
        "{{ ('a\n' * 1000000).splitlines() | length }}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = "
        "[ns.m, "
        "ns.m] %}{% endfor %}{{ ns.l == ns.m }}{{ ns.l < ns.m }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(1000) %}{% set t = s | upper %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(1000) %}{% set t = s[1:] %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(1000) %}{% set t = s ~ i %}{% endfor %}",
        "{% for i in range(1000) %}{% set t %}{{ 'a' * 1000000 }}{% endset %}{% endfor %}",
        "{% for i in range(1000) %}{% set t = range(100000) %}{% endfor %}",
        "{% set l = range(100000) %}{% for i in range(1000) %}{% set t = l | sort %}{% endfor %}",
        "{% set l = range(100000) %}{% for i in range(1000) %}{% set t = l | reverse %}{% endfor %}",
        "{% set l = range(100000) %}{% for i in range(1000) %}{% set t = l | map('string') | list %}{% endfor %}",
        "{{ [range(100000)] * 1 | tojson(indent=100) }}",
        "{{ range(100000) | tojson(separators=('a' * 100000, '')) }}",
        "{{ ('a' * 10000000).rfind('a' * 5000000 ~ 'b') }}",
        "{{ ('a' * 1000000).strip('b' * 1000000 ~ 'a') }}"}) {
    EXPECT_NE(refusal(source, Json::object(), small), "") << source;
  }
  // Near these, what is fine.
  for (const char* source :
       {"{{ ('a' * 10000000).find('a' * 5000000 ~ 'b') }}", "{{ ('a' * 10000000 ~ 'b').count('aab') }}",
        "{{ ('a' * 1000000) | upper | trim | replace('A', 'bcd') | length }}",
        "{% set s = 'a' * 100000 %}{% for i in range(1000) %}{{ s[5] }}{% endfor %}"}) {
    EXPECT_EQ(refusal(source), "") << source;
  }
}

}  // namespace
}  // namespace hearth
