// What a checkpoint says of text: its tokenizer and its chat template, from a folder's files or GGUF metadata.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "models/registry.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hearth {

struct LoadedText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  std::string template_source;
  std::optional<int32_t> end_of_turn;  // the control token with which the template ends an answer
};

// A folder opened with LoadFormat::kDummy may lack a tokenizer: a stand-in then has a word for every id, so that a
// server under measurement streams text. `template_file`: replaces the checkpoint's own; empty: none given.
Result<LoadedText> load_text(const OpenedModel& opened, LoadFormat format, const std::string& template_file);

}  // namespace hearth
