// Prompts and what follows them, for tests of whole models on a GPU: SmolLM2's goldens, or those of the folder that
// HEARTH_TEST_MODEL names, where tools/train_small_mixtral.py has put its model and its examples.json.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace hearth {

constexpr char kGivenModelVariable[] = "HEARTH_TEST_MODEL";
constexpr char kSmolLm2[] = ".cache/models/smollm2-135m-instruct.gguf";

inline std::optional<std::string> given_model() {
  const char* folder = std::getenv(kGivenModelVariable);
  return folder ? std::optional<std::string>(folder) : std::nullopt;
}

struct Example {
  std::vector<int32_t> prompt, continuation;
};
inline std::vector<Example> examples() {
  const auto folder = given_model();
  std::ifstream text(folder ? *folder + "/examples.json" : "tests/golden/models/smollm2_greedy.json");
  const auto file = parse_json(std::string(std::istreambuf_iterator<char>(text), {}));
  HEARTH_CHECK(file.ok());
  std::vector<Example> out;
  for (const Json& entry : (*file)["cases"]) {
    out.push_back({entry["prompt"].get<std::vector<int32_t>>(), entry["continuation"].get<std::vector<int32_t>>()});
  }
  return out;
}

}  // namespace hearth
