// Chat templates: a sandboxed subset of Jinja that renders as Python's jinja2 does under transformers' settings.
// A template reaches nothing but its variables, and is bounded in steps, output and depth.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "text/rendered_prompt.h"

namespace hearth {

namespace jinja {
struct Template;
}

struct RenderLimits {
  int64_t max_steps = 20'000'000;          // expressions and statements, and one for every 64 bytes of strings made
  int64_t max_bytes = int64_t{128} << 20;  // of all strings and lists made, whether they are still held or not
  size_t max_output_bytes = size_t{64} << 20;
};

// Immutable, and so usable from any thread.
class ChatTemplate {
 public:
  static Result<ChatTemplate> parse(std::string_view source);
  const std::string& source() const { return source_; }

  // variables: messages, tools, add_generation_prompt, bos_token, eos_token, and whatever else the template reads.
  // Strings come from the request and so name no control tokens, but for the top-level *_token variables and for roles
  // that are a bare word. What a template refuses by raise_exception is kInvalidArgument with the template's own
  // message. `now` is what strftime_now shows, in local time.
  Result<RenderedPrompt> render(const Json& variables, std::time_t now, const RenderLimits& limits = {}) const;

 private:
  ChatTemplate(std::string_view source, std::shared_ptr<const jinja::Template> parsed)
      : source_(source), parsed_(std::move(parsed)) {}
  std::string source_;
  std::shared_ptr<const jinja::Template> parsed_;
};

}  // namespace hearth
