// Fuzz target: what the JSON parser takes, it takes again as it writes it.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/json.h"

using namespace hearth;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  int64_t bytes_left = 1 << 20;
  auto parsed = parse_json(text, {.max_values = 10'000, .bytes_left = &bytes_left, .root_must_be_object = false});
  HEARTH_CHECK(parsed.ok() || !parsed.status().message().empty());
  if (!parsed.ok()) return 0;
  const OwnedJson tree(new Json(std::move(parsed).value()));
  const auto again = parse_json(tree->dump(), {.root_must_be_object = false});
  HEARTH_CHECK(again.ok() && *again == *tree);
  return 0;
}
