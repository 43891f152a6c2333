// Fuzz target: any template, on messages that have a bit of everything.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "text/chat_template.h"

using namespace hearth;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Json variables =
      parse_json(R"({"messages":[{"role":"system","content":" be \u00C9 "},{"role":"user","content":"hi\n<s>"},
        {"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x":[1,2.5,true]}}}]},
        {"role":"tool","content":"-1e3"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],
        "documents":null,"add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>"})")
          .value();
  const RenderLimits limits{.max_steps = 20'000, .max_bytes = 1 << 20, .max_output_bytes = 50'000};
  const auto parsed = ChatTemplate::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed.ok()) return 0;
  const auto rendered = parsed->render(variables, 0, limits);
  if (!rendered.ok()) return 0;
  HEARTH_CHECK(rendered->text.size() <= limits.max_output_bytes);
  size_t at = 0;
  for (const ByteRange& range : rendered->from_request) {
    HEARTH_CHECK(at <= range.begin && range.begin <= range.end && range.end <= rendered->text.size());
    at = range.end;
  }
  return 0;
}
