// Compiles each line of a file of JSON Schemas and draws random texts from its grammar, as JSON lines for a judge; and
// says how long masks take. grammar_bench SCHEMAS.jsonl TEXTS_EACH
#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "grammar/test_vocabulary.h"

using namespace hearth;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "grammar_bench SCHEMAS.jsonl TEXTS_EACH\n";
    return 1;
  }
  std::vector<std::string> longer;
  for (const char* token :
       {"\":",  "\": ", ", ",    ", \"", "\"}", "}]",       "[{", "{\"", "12",    "-0",  ".5", "e+1",
        "true", "null", "\\u00", "\\n",  "a\"", "\xc3\xa9", "\n", "ab",  "2024-", ":00", "@"}) {
    longer.emplace_back(token);
  }
  const GrammarVocabulary vocabulary = byte_vocabulary(longer);
  const auto compiler = make_grammar_compiler(vocabulary);
  std::mt19937_64 random(1);
  std::ifstream lines(argv[1]);
  const auto words = static_cast<size_t>(Constraint::mask_words(vocabulary.size));
  for (std::string line; std::getline(lines, line);) {
    Json out;
    const auto begin = std::chrono::steady_clock::now();
    auto grammar = compiler->compile({GrammarSpec::Kind::kJsonSchema, line});
    out["compile_ms"] = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    if (!grammar.ok()) out["refused"] = grammar.status().message();
    out["texts"] = Json::array();
    int64_t dead = 0, unfinished = 0;
    for (int i = 0; grammar.ok() && i < std::stoi(argv[2]); ++i) {
      const auto constraint = (*grammar)->start();
      std::vector<int32_t> mask(words);
      std::string text;
      const uint64_t eager = random() % 4;  // to end
      bool ended = false;
      for (int step = 0; step < 600 && !ended; ++step) {
        std::vector<int32_t> allowed, closing;
        const bool masked = constraint->fill_mask(mask);
        for (int32_t token = 0; token < static_cast<int32_t>(vocabulary.tokens.size()); ++token) {
          if (masked && (static_cast<uint32_t>(mask[static_cast<size_t>(token / 32)]) >> (token % 32) & 1) == 0)
            continue;
          allowed.push_back(token);
          if (token == kTestEnd || token == '"' || token == '}' || token == ']') closing.push_back(token);
        }
        if (allowed.empty()) {
          ++dead;
          break;
        }
        const auto& from = !closing.empty() && random() % 5 < 1 + eager ? closing : allowed;
        const int32_t token = from[random() % from.size()];
        if (!constraint->accept(token)) return 2;
        if (token == kTestEnd) {
          ended = true;
        } else {
          text += vocabulary.tokens[static_cast<size_t>(token)];
        }
      }
      if (ended) out["texts"].push_back(text);
      if (!ended) ++unfinished;
    }
    out["dead"] = dead;
    out["unfinished"] = unfinished;
    std::cout << out.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  }
  return 0;
}
