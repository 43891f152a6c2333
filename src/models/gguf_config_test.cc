// Hyper-parameters of a GGUF file: which are read, and how each wrong one is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "models/config.h"
#include "weights/test_gguf.h"

namespace hearth {
namespace {

using test::array;
using test::raw;
using test::text;
using test::value;

struct Typed {
  GgufType type;
  std::string bytes;
};
Typed u32(uint32_t v) { return {GgufType::kU32, raw(v)}; }
Typed f32(float v) { return {GgufType::kF32, raw(v)}; }
Typed string(std::string_view v) { return {GgufType::kString, text(v)}; }

// A good file's metadata; each test changes some of it.
struct Metadata {
  std::map<std::string, Typed> values = {
      {"general.architecture", string("llama")},
      {"llama.embedding_length", u32(64)},
      {"llama.block_count", u32(2)},
      {"llama.attention.head_count", u32(4)},
      {"llama.attention.head_count_kv", u32(2)},
      {"llama.attention.layer_norm_rms_epsilon", f32(1e-5f)},
      {"llama.feed_forward_length", u32(96)},
      {"llama.context_length", u32(128)},
      {"tokenizer.ggml.model", string("gpt2")},
      {"tokenizer.ggml.tokens", {GgufType::kArray, array(GgufType::kString, 2, text("a") + text("b"))}},
  };

  Result<ModelConfig> read() const {
    test::TempFolder folder;
    test::GgufParts parts;
    parts.values.clear();
    for (const auto& [key, v] : values) parts.values.push_back(value(key, v.type, v.bytes));
    parts.tensors = {test::tensor("token_embd.weight", {64, 2}, 0, 0)};
    parts.data_bytes = 512;
    std::string divisors;
    for (const float d : rope_divisors) divisors += raw(d);
    if (!rope_divisors.empty())
      parts.tensors.push_back(test::tensor("rope_freqs.weight", {rope_divisors.size()}, 0, 512));
    const std::string bytes = parts.bytes() + divisors;
    HEARTH_ASSIGN(const auto checkpoint, open_gguf_checkpoint(folder.write("x.gguf", bytes)));
    return read_gguf_config(*checkpoint);
  }
  std::vector<float> rope_divisors;  // a tensor of them, where there are some
};

TEST(GgufConfig, ReadsWhatItNeeds) {
  Metadata m;
  m.rope_divisors.assign(8, 2.0f);
  auto c = m.read();
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->architecture, "llama");
  EXPECT_EQ(c->hidden, 64);
  ASSERT_EQ(c->layers.size(), 2u);
  EXPECT_EQ(c->layers[1].attention.heads, 4);
  EXPECT_EQ(c->layers[1].attention.kv_heads, 2);
  EXPECT_EQ(c->layers[1].attention.head_dim, 16);
  EXPECT_EQ(c->layers[1].feed_forward.intermediate, 96);
  EXPECT_EQ(c->max_positions, 128);
  EXPECT_EQ(c->vocab, 2);
  EXPECT_EQ(c->rms_epsilon, 1e-5f);
  EXPECT_EQ(c->rope.theta, 1e4);
  EXPECT_EQ(c->rope.divisors, std::vector<float>(8, 2.0f));
  EXPECT_TRUE(c->tied_head);
  EXPECT_TRUE(c->eos.empty());

  m.values["llama.expert_count"] = u32(0);  // as converters write it for a model without experts
  EXPECT_EQ(m.read()->architecture, "llama");
  m.values["llama.expert_count"] = u32(8);
  m.values["llama.expert_used_count"] = u32(2);
  m.values["llama.rope.scaling.type"] = string("yarn");
  m.values["llama.rope.scaling.factor"] = f32(4);
  m.values["llama.rope.scaling.original_context_length"] = u32(32);
  m.values["tokenizer.ggml.eos_token_id"] = u32(1);
  c = m.read();
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->architecture, "mixtral");
  EXPECT_EQ(c->layers[1].feed_forward.experts, 8);
  EXPECT_EQ(c->layers[1].feed_forward.experts_per_token, 2);
  EXPECT_EQ(c->rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(c->rope.factor, 4);
  EXPECT_EQ(c->rope.original_max_positions, 32);
  EXPECT_EQ(c->eos, std::vector<int32_t>{1});
}

// Every architecture's keys are under its own name.
TEST(GgufConfig, ReadsTheFamilies) {
  const auto of = [](const std::string& name, const std::map<std::string, Typed>& more) {
    Metadata m;
    std::map<std::string, Typed> values;
    for (const auto& [key, v] : m.values) values[key.starts_with("llama.") ? name + key.substr(5) : key] = v;
    for (const auto& [key, v] : more) values[name + key] = v;
    values["general.architecture"] = string(name);
    m.values = values;
    const auto c = m.read();
    EXPECT_TRUE(c.ok()) << c.status().message();
    return *c;
  };
  const ModelConfig qwen2 = of("qwen2", {});
  EXPECT_EQ(qwen2.architecture, "qwen2");
  EXPECT_TRUE(qwen2.layers[0].attention.qkv_bias);
  const ModelConfig qwen3 = of(
      "qwen3",
      {{".attention.key_length", u32(32)}, {".attention.value_length", u32(32)}, {".rope.dimension_count", u32(32)}});
  EXPECT_EQ(qwen3.layers[0].attention.head_dim, 32);
  EXPECT_EQ(qwen3.layers[0].attention.qk_norm, QkNorm::kEachHead);
  std::map<std::string, Typed> experts = {{".expert_count", u32(8)}, {".expert_used_count", u32(2)}};
  const ModelConfig olmoe = of("olmoe", experts);
  experts.emplace(".expert_feed_forward_length", u32(24));
  const ModelConfig moe = of("qwen3moe", experts);
  EXPECT_EQ(moe.architecture, "qwen3_moe");
  EXPECT_EQ(moe.layers[1].feed_forward.intermediate, 24);
  EXPECT_TRUE(moe.layers[1].feed_forward.scoring.renormalize);
  auto sigmoids = experts;
  for (const auto& [key, v] : std::map<std::string, Typed>{{".expert_gating_func", u32(2)},
                                                           {".expert_weights_scale", f32(1.5f)},
                                                           {".expert_shared_count", u32(2)},
                                                           {".leading_dense_block_count", u32(0)},
                                                           {".nextn_predict_layers", u32(1)},
                                                           {".rope.dimension_count", u32(8)}}) {
    sigmoids.emplace(key, v);
  }
  const ModelConfig glm = of("glm4moe", sigmoids);
  EXPECT_EQ(glm.layers.size(), 1u);  // the other guesses further tokens
  EXPECT_EQ(glm.layers[0].attention.rotary, 8);
  EXPECT_EQ(glm.layers[0].feed_forward.shared_intermediate, 48);
  EXPECT_EQ(glm.layers[0].feed_forward.scoring.scale, 1.5f);
  EXPECT_TRUE(glm.layers[0].feed_forward.scoring.sigmoid);
  auto shared = experts;
  shared.emplace(".expert_shared_feed_forward_length", u32(40));
  EXPECT_EQ(of("qwen2moe", shared).layers[1].feed_forward.shared_intermediate, 40);
  EXPECT_EQ(of("minimax-m2", experts).layers[1].feed_forward.intermediate, 24);
  experts.emplace(".attention.sliding_window", u32(16));
  const ModelConfig oss = of("gpt-oss", experts);
  EXPECT_EQ(oss.architecture, "gpt_oss");
  EXPECT_EQ(oss.layers[0].attention.window, 16);
  EXPECT_EQ(oss.layers[1].attention.window, 0);
  EXPECT_EQ(oss.layers[1].feed_forward.intermediate, 24);
  EXPECT_TRUE(oss.layers[1].feed_forward.swiglu.clamped && oss.layers[1].attention.sinks);
  EXPECT_FALSE(oss.rope.truncate);
  EXPECT_EQ(olmoe.layers[1].feed_forward.intermediate, 96);
  EXPECT_FALSE(olmoe.layers[1].feed_forward.scoring.renormalize);
}

TEST(GgufConfig, RefusesByTheKeysName) {
  const Typed huge_u64{GgufType::kU64, raw(uint64_t{1} << 62)}, negative{GgufType::kI32, raw(int32_t{-4})};
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  struct Bad {
    const char* message;  // a part of it
    const char* key;
    std::optional<Typed> value;  // none: the key is missing
  };
  const std::vector<Bad> all = {
      {"llama.embedding_length: expected an integer from 1 to 1048576, found 0", "llama.embedding_length", u32(0)},
      {"llama.embedding_length: expected an integer from 1 to 1048576, found -4", "llama.embedding_length", negative},
      {"llama.embedding_length: expected an integer from 1 to 1048576, found 4611686018427387904",
       "llama.embedding_length", huge_u64},
      {"llama.embedding_length: expected an integer, found nothing", "llama.embedding_length", {}},
      {"llama.embedding_length: expected an integer, found another type", "llama.embedding_length", f32(64)},
      {"llama.embedding_length: expected an integer, found another type", "llama.embedding_length", string("64")},
      {"llama.embedding_length: expected a multiple of attention.head_count 4, found 66", "llama.embedding_length",
       u32(66)},
      {"llama.embedding_length: expected a multiple of attention.head_count 4, found 2", "llama.embedding_length",
       u32(2)},
      {"head_dim: expected a multiple of 8, found 12", "llama.embedding_length", u32(48)},
      {"llama.block_count: expected an integer from 1 to 1024, found 0", "llama.block_count", u32(0)},
      {"llama.block_count: expected an integer from 1 to 1024, found 4294967295", "llama.block_count",
       u32(4294967295u)},
      {"llama.block_count: expected an integer, found nothing", "llama.block_count", {}},
      {"llama.attention.head_count: expected an integer from 1 to 4096, found 0", "llama.attention.head_count", u32(0)},
      {"llama.attention.head_count: expected an integer from 1 to 4096, found -4", "llama.attention.head_count",
       negative},
      {"llama.attention.head_count: expected an integer from 1 to 4096, found 4611686018427387904",
       "llama.attention.head_count", huge_u64},
      {"llama.attention.head_count: expected an integer, found nothing", "llama.attention.head_count", {}},
      {"llama.attention.head_count: expected an integer, found another type", "llama.attention.head_count",
       Typed{GgufType::kArray, array(GgufType::kU32, 2, raw(4u) + raw(4u))}},
      {"expected attention heads in groups of 3 KV heads, found 4", "llama.attention.head_count_kv", u32(3)},
      {"expected attention heads in groups of 8 KV heads, found 4", "llama.attention.head_count_kv", u32(8)},
      {"llama.attention.head_count_kv: expected an integer from 1 to 4096, found 0", "llama.attention.head_count_kv",
       u32(0)},
      {"llama.attention.head_count_kv: expected an integer from 1 to 4096, found -4", "llama.attention.head_count_kv",
       negative},
      {"llama.attention.key_length: expected an integer from 1 to 1024, found 0", "llama.attention.key_length", u32(0)},
      {"expected keys, values and rotation of 16 channels, found 8 and 16", "llama.attention.value_length", u32(8)},
      {"expected keys, values and rotation of 16 channels, found 16 and 8", "llama.rope.dimension_count", u32(8)},
      {"llama.feed_forward_length: expected an integer from 1 to 1048576, found 0", "llama.feed_forward_length",
       u32(0)},
      {"llama.feed_forward_length: expected an integer, found nothing", "llama.feed_forward_length", {}},
      {"llama.context_length: expected an integer from 1 to 2097152, found 0", "llama.context_length", u32(0)},
      {"llama.context_length: expected an integer from 1 to 2097152, found 4611686018427387904", "llama.context_length",
       huge_u64},
      {"llama.context_length: expected an integer, found nothing", "llama.context_length", {}},
      {"llama.attention.layer_norm_rms_epsilon: expected a float, found nothing",
       "llama.attention.layer_norm_rms_epsilon",
       {}},
      {"llama.attention.layer_norm_rms_epsilon: expected a float, found another type",
       "llama.attention.layer_norm_rms_epsilon", u32(1)},
      {"epsilon: expected a float32 above 0, found 0", "llama.attention.layer_norm_rms_epsilon", f32(0)},
      {"epsilon: expected a float32 above 0, found inf", "llama.attention.layer_norm_rms_epsilon", f32(infinity)},
      {"epsilon: expected a float32 above 0, found ", "llama.attention.layer_norm_rms_epsilon", f32(nan)},
      {"epsilon: expected a float32 above 0, found 0", "llama.attention.layer_norm_rms_epsilon",
       Typed{GgufType::kF64, raw(1e-60)}},
      {"llama.rope.freq_base: expected a number above 1, found 1", "llama.rope.freq_base", f32(1)},
      {"llama.rope.freq_base: expected a number above 1, found inf", "llama.rope.freq_base", f32(infinity)},
      {"llama.rope.freq_base: expected a number above 1, found ", "llama.rope.freq_base", f32(nan)},
      {"llama.rope.freq_base: expected a float, found another type", "llama.rope.freq_base", u32(10000)},
      {"llama.rope.scaling.factor: expected a float, found nothing", "llama.rope.scaling.type", string("linear")},
      {"llama.expert_used_count: expected 1 to 8, found nothing", "llama.expert_count", u32(8)},
      {"llama.expert_count: expected an integer from 1 to 1024, found 1025", "llama.expert_count", u32(1025)},
      {"llama.expert_count: expected an integer from 1 to 1024, found -4", "llama.expert_count", negative},
      {"expected at most 0 experts per token, found 2", "llama.expert_used_count", u32(2)},
      {"general.architecture: expected a string, found nothing", "general.architecture", {}},
      {"general.architecture: expected one of glm4moe, gpt-oss, granite, granitemoe, llama, minimax-m2, olmoe, qwen2, "
       "qwen2moe, qwen3, qwen3moe, found gemma",
       "general.architecture", string("gemma")},
      {"tokenizer.ggml.tokens: expected a vocabulary, found none", "tokenizer.ggml.tokens", {}},
      {"tokenizer.ggml.eos_token_id: expected an id below 2, found 2", "tokenizer.ggml.eos_token_id", u32(2)},
  };
  for (const Bad& bad : all) {
    Metadata m;
    if (bad.value) {
      m.values[bad.key] = *bad.value;
    } else {
      m.values.erase(bad.key);
    }
    const auto c = m.read();
    ASSERT_FALSE(c.ok()) << bad.message;
    const std::string& message = c.status().message();
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.message << ": " << message;
    EXPECT_NE(message.find("x.gguf: "), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

// llama.cpp's rules: what a file says of 2023 or without a type is linear.
TEST(GgufConfig, RopeScalingUnderAllItsNames) {
  struct Case {
    std::map<std::string, Typed> values;
    RopeScaling scaling;
    double factor, attention_factor;
  };
  const std::string scaling = "llama.rope.scaling.";
  const double yarn4 = 0.1 * std::log(4.0) + 1;
  const std::vector<Case> all = {
      {{}, RopeScaling::kNone, 1, 1},
      {{{"llama.rope.scale_linear", f32(8)}}, RopeScaling::kLinear, 8, 1},
      {{{scaling + "factor", f32(8)}}, RopeScaling::kLinear, 8, 1},
      {{{scaling + "factor", f32(4)}, {"llama.rope.scale_linear", f32(8)}}, RopeScaling::kLinear, 4, 1},
      {{{scaling + "type", string("linear")}, {"llama.rope.scale_linear", f32(8)}}, RopeScaling::kLinear, 8, 1},
      {{{scaling + "type", string("none")}, {scaling + "factor", f32(8)}}, RopeScaling::kNone, 1, 1},
      {{{scaling + "type", string("yarn")}, {scaling + "factor", f32(4)}}, RopeScaling::kYarn, 4, yarn4},
      {{{scaling + "type", string("yarn")}, {scaling + "factor", f32(4)}, {scaling + "attn_factor", f32(0.5f)}},
       RopeScaling::kYarn,
       4,
       0.5 * yarn4},
      {{{scaling + "factor", f32(2)}, {scaling + "attn_factor", f32(0.5f)}, {scaling + "finetuned", u32(1)}},
       RopeScaling::kLinear,
       2,
       0.5},
  };
  for (size_t i = 0; i < all.size(); ++i) {
    Metadata m;
    for (const auto& [key, v] : all[i].values) m.values[key] = v;
    const auto c = m.read();
    ASSERT_TRUE(c.ok()) << i << ": " << c.status().message();
    EXPECT_EQ(c->rope.scaling, all[i].scaling) << i;
    EXPECT_EQ(c->rope.factor, all[i].factor) << i;
    EXPECT_DOUBLE_EQ(c->rope.attention_factor, all[i].attention_factor) << i;
  }
  Metadata m;
  m.values["llama.rope.scaling.type"] = string("yarn");
  m.values["llama.rope.scaling.factor"] = f32(4);
  m.values["llama.rope.scaling.yarn_beta_fast"] = f32(16);
  m.values["llama.rope.scaling.yarn_beta_slow"] = f32(2);
  EXPECT_EQ(m.read()->rope.beta_fast, 16);
  EXPECT_EQ(m.read()->rope.beta_slow, 2);
}

TEST(GgufConfig, RefusesKeysThatNobodyReads) {
  const auto refusal = [](const std::string& key, const Typed& v) {
    Metadata m;
    m.values[key] = v;
    return m.read().status().message();
  };
  const Typed no{GgufType::kBool, raw(uint8_t{0})}, yes{GgufType::kBool, raw(uint8_t{1})};
  EXPECT_EQ(refusal("llama.vocab_size", u32(7)), "");
  EXPECT_EQ(refusal("llama.attention.causal", yes), "");
  EXPECT_EQ(refusal("llama.attention.clamp_kqv", f32(0)), "");
  EXPECT_EQ(refusal("llama.tensor_data_layout", string("Meta AI original pth")), "");
  EXPECT_EQ(refusal("tokenizer.ggml.fim_pre_token_id", u32(0)), "");
  EXPECT_EQ(refusal("general.whatever", u32(7)), "");
  EXPECT_EQ(refusal("someone.else", u32(7)), "");
  for (const auto& [key, v] :
       std::vector<std::pair<std::string, Typed>>{{"llama.attention.causal", no},
                                                  {"llama.attention.clamp_kqv", f32(8)},
                                                  {"llama.attention.sliding_window", u32(64)},
                                                  {"llama.logit_scale", f32(0.5f)},
                                                  {"llama.rope.scaling.yarn_log_multiplier", f32(0.1f)},
                                                  {"llama.rope.scaling.yarn_ext_factor", f32(0.5f)},
                                                  {"llama.tensor_data_layout", string("other")},
                                                  {"llama.use_parallel_residual", yes},
                                                  {"general.type", string("adapter")},
                                                  {"tokenizer.ggml.remove_extra_whitespaces", yes},
                                                  {"tokenizer.ggml.precompiled_charsmap", string("x")}}) {
    EXPECT_NE(refusal(key, v).find(key), std::string::npos) << key;
  }
}

TEST(GgufConfig, RefusesScalingsItCannotFollow) {
  const auto refusal = [](std::string_view type, float factor) {
    Metadata m;
    m.values["llama.rope.scaling.type"] = string(type);
    m.values["llama.rope.scaling.factor"] = f32(factor);
    return m.read().status().message();
  };
  EXPECT_EQ(refusal("linear", 2), "");
  EXPECT_NE(refusal("linear", 0).find("llama.rope.scaling.factor: expected a number above 0, found 0"),
            std::string::npos);
  EXPECT_NE(refusal("linear", std::numeric_limits<float>::infinity()).find("above 0, found inf"), std::string::npos);
  EXPECT_NE(refusal("longrope", 2).find("llama.rope.scaling.type: expected none, linear or yarn, found longrope"),
            std::string::npos);

  Metadata m;
  m.values["llama.expert_count"] = u32(4);
  m.values["llama.expert_used_count"] = u32(5);
  EXPECT_NE(m.read().status().message().find("expected at most 4 experts per token, found 5"), std::string::npos);
  for (const float divisor : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    Metadata bad;
    bad.rope_divisors.assign(8, divisor);
    EXPECT_NE(bad.read().status().message().find("rope_freqs.weight: expected divisors above 0"), std::string::npos)
        << divisor;
  }
  Metadata too_few;
  too_few.rope_divisors.assign(7, 2.0f);
  EXPECT_NE(too_few.read().status().message().find("rope_freqs.weight: expected [8], found [7]"), std::string::npos);
}

}  // namespace
}  // namespace hearth
