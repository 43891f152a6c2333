#include "api/sampling_defaults.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/completion_request.h"

namespace hearth {
namespace {

Result<SamplingParams> read(std::string_view config, SamplingParams base = {}) {
  return sampling_defaults(parse_json(config).value(), std::move(base));
}

TEST(SamplingDefaults, WhatTheModelNamesAndNoMore) {
  // As Llama's and Qwen's files are.
  const SamplingParams got = read(R"({"bos_token_id":1,"do_sample":true,"eos_token_id":[2,3],"max_length":4096,
      "pad_token_id":null,"repetition_penalty":1.05,"temperature":0.5,"top_k":20,"top_p":0.75,"min_p":0.25,
      "frequency_penalty":2,"transformers_version":"5.0.0"})")
                                 .value();
  EXPECT_EQ(got.temperature, 0.5f);
  EXPECT_EQ(got.top_p, 0.75f);
  EXPECT_EQ(got.top_k, 20);
  EXPECT_EQ(got.min_p, 0.25f);
  EXPECT_EQ(got.repetition_penalty, 1.05f);
  EXPECT_EQ(got.frequency_penalty, 0.0f);
  EXPECT_EQ(describe_defaults(got), "temperature 0.5, top_p 0.75, top_k 20, min_p 0.25, repetition_penalty 1.05");
}

TEST(SamplingDefaults, WhatItDoesNotNameStays) {
  EXPECT_EQ(describe_defaults(read("{}").value()), "");
  SamplingParams gentle;
  gentle.temperature = 0.5f;
  gentle.top_p = 0.75f;
  const SamplingParams got = read(R"({"temperature":null,"top_p":1.0,"top_k":-1})", gentle).value();
  EXPECT_EQ(got.temperature, 0.5f);
  EXPECT_EQ(got.top_p, 1.0f);
  EXPECT_EQ(got.top_k, 0);
}

TEST(SamplingDefaults, RefusesWhatARequestCouldNotSay) {
  for (const auto& [config, field] : {std::pair(R"({"temperature":-1})", "temperature"),
                                      {R"({"temperature":"warm"})", "temperature"},
                                      {R"({"top_p":0})", "top_p"},
                                      {R"({"top_p":1.5})", "top_p"},
                                      {R"({"top_k":2.5})", "top_k"},
                                      {R"({"min_p":2})", "min_p"},
                                      {R"({"repetition_penalty":0})", "repetition_penalty"}}) {
    EXPECT_EQ(read(config).status().param(), field) << config;
  }
}

TEST(SamplingDefaults, ARequestNamesItsOwn) {
  ApiLimits limits{.vocab_size = 10, .max_model_len = 100};
  limits.defaults = read(R"({"temperature":0.5,"top_k":20,"top_p":0.75})").value();
  const auto request = [&](std::string_view body) {
    return parse_completion_request(parse_json(body).value(), limits).value().sampling;
  };
  const SamplingParams plain = request(R"({"prompt":"a","temperature":null})");
  EXPECT_EQ(plain.temperature, 0.5f);
  EXPECT_EQ(plain.top_p, 0.75f);
  EXPECT_EQ(plain.top_k, 0) << "the whole vocabulary";
  const SamplingParams own = request(R"({"prompt":"a","temperature":1,"top_k":3})");
  EXPECT_EQ(own.temperature, 1.0f);
  EXPECT_EQ(own.top_k, 3);
  EXPECT_EQ(own.top_p, 0.75f);
}

}  // namespace
}  // namespace hearth
