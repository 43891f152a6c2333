// Request in, marked text out.
#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "text/jinja/ast.h"
#include "text/jinja/evaluator.h"

namespace hearth {

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  HEARTH_ASSIGN(auto parsed, jinja::parse_template(source));
  return ChatTemplate(source, std::make_shared<const jinja::Template>(std::move(parsed)));
}

Result<RenderedPrompt> ChatTemplate::render(const Json& variables, std::time_t now, const RenderLimits& limits) const {
  if (!variables.is_object()) return invalid("chat template: the variables are not an object");
  jinja::Dict values;
  for (const auto& [name, value] : variables.items()) {
    values.items.emplace_back(jinja::MarkedString(name), jinja::from_json(value, !name.ends_with("_token")));
  }
  jinja::Context context(limits.max_steps, limits.max_bytes, now);
  const jinja::MarkedString out = jinja::evaluate(context, *parsed_, values, limits.max_output_bytes);
  if (context.failed()) return context.status();
  return RenderedPrompt{out.text(), out.ranges()};
}

}  // namespace hearth
