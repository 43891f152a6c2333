// Answers of /v1/responses: output items, whole or as events.
#pragma once

#include <functional>

#include <nlohmann/json.hpp>
#include "api/answer_writer.h"

#include "base/json.h"

namespace hearth {

struct ResponsesHead {
  std::string id;
  int64_t created = 0;  // Unix seconds
  std::string model;
  Json echo;  // of the request
};

// `ended`: told the assistant's message, in chat's words, when the answer is complete.
std::unique_ptr<AnswerWriter> make_responses_writer(ResponsesHead head, std::function<void(Json message)> ended);

}  // namespace hearth
