// AnswerWriter: one API's spelling of an answer, whole or as server-sent events. What an answer says is in its choices.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "api/choice.h"
#include "api/errors.h"

namespace hearth {

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0, reasoning_tokens = 0;
};

class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  // A stream: what one choice has that was not given yet; the caller then calls taken().
  virtual void write_piece(std::string& out, Choice& choice, const Usage& of_choice) = 0;
  virtual void write_end(std::string& out, const Usage& usage) = 0;
  // In the place of the rest.
  virtual void write_error(std::string& out, const ApiError& error) = 0;
  // No stream: everything, once.
  virtual void write_whole(std::string& out, std::span<Choice* const> choices, const Usage& usage) = 0;
};

}  // namespace hearth
