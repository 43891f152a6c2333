// Strict JSON in: one parser, with limits, for request bodies, configs, safetensors headers and tokenizer files.
// Refuses what RFC 8259 leaves open and attackers use: duplicate keys, deep nesting, numbers beyond double, bad UTF-8,
// a BOM, lone surrogates, trailing bytes. Errors name the place (byte offset), never the content.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace hearth {

using Json = nlohmann::ordered_json;  // keeps the order of keys: chat templates print objects

struct JsonLimits {
  int64_t max_depth = 64;
  int64_t max_values = 10'000'000;  // scalars, arrays and objects together
  // Of memory that values may take, by estimate: a {} of two bytes takes sixty. Several documents may share it.
  int64_t* bytes_left = nullptr;
  bool root_must_be_object = true;
};

// Includers that touch the value include <nlohmann/json.hpp> themselves.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

// Frees a tree without taking memory for it. Json's own destructor takes some, and ends the process where none is left.
struct DismantleJson {
  void operator()(Json* tree) const noexcept;
};
using OwnedJson = std::unique_ptr<Json, DismantleJson>;

}  // namespace hearth
