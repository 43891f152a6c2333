#include "models/config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "weights/test_files.h"

namespace hearth {
namespace {

using test::TempFolder;

// A good config.json's members; each test adds to or replaces them.
constexpr const char* kLlama = R"("model_type":"llama","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,)"
                               R"("intermediate_size":96,"vocab_size":100,"max_position_embeddings":128)";
constexpr const char* kMixtral =
    R"("model_type":"mixtral","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,)"
    R"("num_key_value_heads":2,"intermediate_size":96,"vocab_size":100,"max_position_embeddings":128)";

Result<ModelConfig> config_of(const std::string& members) {
  TempFolder folder;
  folder.write("config.json", cat("{", members, "}"));
  return read_config(folder.path());
}
// `members` with one more, or with that member replaced.
std::string with(std::string members, const std::string& name, const std::string& value) {
  const std::string key = cat("\"", name, "\":");
  if (const size_t at = members.find(key); at != members.npos) {
    const size_t end = std::min(members.find(',', at), members.size());
    return members.replace(at, end - at, key + value);
  }
  return cat(members, ",", key, value);
}

TEST(Config, DefaultsAreTransformers) {
  const auto c = config_of(kLlama);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->architecture, "llama");
  EXPECT_EQ(c->layers.size(), 2u);
  EXPECT_EQ(c->layers[1].attention.kv_heads, 4);
  EXPECT_EQ(c->layers[1].attention.head_dim, 16);
  EXPECT_EQ(c->layers[1].attention.window, 0);
  EXPECT_EQ(c->layers[1].feed_forward.experts, 0);
  EXPECT_EQ(c->rope.theta, 1e4);
  EXPECT_FALSE(c->tied_head);
  EXPECT_FALSE(c->quantization.fp8);
  EXPECT_EQ(c->rms_epsilon, 1e-6f);
  const auto m = config_of(kMixtral);
  ASSERT_TRUE(m.ok()) << m.status().message();
  EXPECT_EQ(m->rope.theta, 1e6);
  EXPECT_EQ(m->architecture, "mixtral");
  EXPECT_EQ(m->layers[1].feed_forward.experts, 8);
  EXPECT_EQ(m->layers[1].feed_forward.experts_per_token, 2);
  EXPECT_TRUE(m->layers[1].feed_forward.scoring.renormalize);
}

TEST(Config, ReadsBothFormsOfTransformers) {
  const auto old_form = config_of(cat(kLlama, R"(,"torch_dtype":"float16","rope_theta":5e5,"rope_scaling":)",
                                      R"({"type":"linear","factor":2},"eos_token_id":[2,3],"bos_token_id":1)"));
  const auto new_form =
      config_of(cat(kLlama, R"(,"dtype":"float16","rope_parameters":{"rope_type":"linear","factor":2.0,)",
                    R"("rope_theta":5e5},"eos_token_id":2)"));
  for (const auto* c : {&old_form, &new_form}) {
    ASSERT_TRUE(c->ok()) << c->status().message();
    EXPECT_EQ((*c)->dtype, DType::kF16);
    EXPECT_EQ((*c)->rope.theta, 5e5);
    EXPECT_EQ((*c)->rope.scaling, RopeScaling::kLinear);
    EXPECT_EQ((*c)->rope.factor, 2);
  }
  EXPECT_EQ(old_form->eos, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(new_form->eos, (std::vector<int32_t>{2}));
}

TEST(Config, HonoursTheSlidingWindow) {
  EXPECT_EQ(config_of(with(kMixtral, "sliding_window", "4096"))->layers[0].attention.window, 4096);
  EXPECT_EQ(config_of(with(kMixtral, "sliding_window", "null"))->layers[0].attention.window, 0);
  const std::string mistral = with(kLlama, "model_type", "\"mistral\"");
  EXPECT_EQ(config_of(with(mistral, "sliding_window", "32"))->layers[0].attention.window, 32);
  EXPECT_EQ(config_of(with(mistral, "sliding_window", "null"))->layers[0].attention.window, 0);
  EXPECT_EQ(config_of(mistral)->layers[0].attention.window, 4096) << "transformers' default";
}

TEST(Config, QwensWindowsAreALayers) {
  const std::string qwen = with(with(kLlama, "model_type", "\"qwen2\""), "max_window_layers", "1");
  const auto windows = [](const std::string& members) {
    std::vector<int64_t> out;
    const auto c = config_of(members);
    EXPECT_TRUE(c.ok()) << c.status().message();
    for (const LayerSpec& layer : c->layers) out.push_back(layer.attention.window);
    return out;
  };
  const std::string used = with(with(qwen, "sliding_window", "32"), "use_sliding_window", "true");
  EXPECT_EQ(windows(with(qwen, "sliding_window", "32")), (std::vector<int64_t>{0, 0})) << "not used";
  EXPECT_EQ(windows(used), (std::vector<int64_t>{0, 32}));
  EXPECT_EQ(windows(cat(used, R"(,"layer_types":["sliding_attention","full_attention"])")),
            (std::vector<int64_t>{32, 0}));
  const auto refusal = [](const std::string& members) { return config_of(members).status().message(); };
  EXPECT_NE(refusal(cat(used, R"(,"layer_types":["sliding_attention"])")).find("layer_types: expected 2 strings"),
            std::string::npos);
  EXPECT_NE(
      refusal(cat(used, R"(,"layer_types":["full_attention","odd"])")).find("layer_types: expected full_attention or"),
      std::string::npos);
  EXPECT_NE(
      refusal(cat(qwen, R"(,"layer_types":["full_attention","sliding_attention"])")).find("sliding_window: expected"),
      std::string::npos);
}

// What each family's config says beside the others'.
TEST(Config, ReadsTheFamilies) {
  const auto of = [](const char* type, const std::string& more = "") {
    const auto c = config_of(cat(with(kLlama, "model_type", cat("\"", type, "\"")), more));
    EXPECT_TRUE(c.ok()) << c.status().message();
    return c->layers;
  };
  const auto qwen2 = of("qwen2")[0].attention, qwen3 = of("qwen3", R"(,"head_dim":32)")[0].attention;
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.out_bias && qwen2.qk_norm == QkNorm::kNone);
  EXPECT_TRUE(!qwen3.qkv_bias && qwen3.qk_norm == QkNorm::kEachHead && qwen3.head_dim == 32);
  EXPECT_EQ(of("qwen3")[0].attention.head_dim, 128) << "transformers' default";

  const auto moe = of("qwen3_moe", R"(,"num_experts":16,"num_experts_per_tok":4,"moe_intermediate_size":24,)"
                                   R"("norm_topk_prob":true,"mlp_only_layers":[1])");
  EXPECT_EQ(moe[0].feed_forward.experts, 16);
  EXPECT_EQ(moe[0].feed_forward.experts_per_token, 4);
  EXPECT_EQ(moe[0].feed_forward.intermediate, 24);
  EXPECT_TRUE(moe[0].feed_forward.scoring.renormalize);
  EXPECT_EQ(moe[1].feed_forward.experts, 0);
  EXPECT_EQ(moe[1].feed_forward.intermediate, 96);
  EXPECT_EQ(moe[1].attention.qk_norm, QkNorm::kEachHead);
  EXPECT_EQ(of("qwen3_moe", R"(,"num_local_experts":5,"num_experts_per_tok":1,"decoder_sparse_step":2)")[0]
                .feed_forward.experts,
            0);

  const auto gpt_oss = of("gpt_oss", R"(,"num_local_experts":6)");
  EXPECT_EQ(gpt_oss[0].attention.window, 128);
  EXPECT_EQ(gpt_oss[1].attention.window, 0);
  EXPECT_EQ(gpt_oss[0].attention.head_dim, 64);
  EXPECT_TRUE(gpt_oss[1].attention.sinks && gpt_oss[1].attention.qkv_bias && gpt_oss[1].attention.out_bias);
  EXPECT_TRUE(gpt_oss[1].feed_forward.router_bias && gpt_oss[1].feed_forward.expert_bias);
  EXPECT_TRUE(gpt_oss[1].feed_forward.swiglu.clamped);
  EXPECT_EQ(gpt_oss[1].feed_forward.swiglu.alpha, 1.702f);
  EXPECT_EQ(gpt_oss[1].feed_forward.experts_per_token, 4);
  const std::string oss = with(kLlama, "model_type", "\"gpt_oss\"");
  const RopeConfig rope = config_of(oss)->rope;  // as transformers has it where none is stated
  EXPECT_EQ(rope.theta, 150000);
  EXPECT_EQ(rope.scaling, RopeScaling::kYarn);
  EXPECT_FALSE(rope.truncate);
  EXPECT_EQ(config_of(cat(oss, R"(,"layer_types":["full_attention","sliding_attention"],"sliding_window":9)"))
                ->layers[1]
                .attention.window,
            9);
  EXPECT_NE(config_of(cat(oss, R"(,"layer_types":["full_attention","sliding_attention"],"sliding_window":null)"))
                .status()
                .message()
                .find("sliding_window: expected a window"),
            std::string::npos);

  const auto olmoe = of("olmoe")[0];
  EXPECT_EQ(olmoe.feed_forward.experts, 64);
  EXPECT_FALSE(olmoe.feed_forward.scoring.renormalize);
  EXPECT_EQ(olmoe.attention.qk_norm, QkNorm::kAllHeads);
  const std::string clipped = cat(with(kLlama, "model_type", "\"olmoe\""), R"(,"clip_qkv":8.0)");
  EXPECT_NE(config_of(clipped).status().message().find("clip_qkv: expected null, found 8.0"), std::string::npos);
}

TEST(Config, EndIdsOfGenerationConfigCountToo) {
  TempFolder folder;
  folder.write("config.json", cat("{", with(kLlama, "eos_token_id", "2"), "}"));
  folder.write("generation_config.json", R"({"eos_token_id":[2,7,9]})");
  EXPECT_EQ(read_config(folder.path())->eos, (std::vector<int32_t>{2, 7, 9}));
  folder.write("generation_config.json", R"({"eos_token_id":[100]})");
  EXPECT_NE(read_config(folder.path()).status().message().find("generation_config.json: eos_token_id: expected token"),
            std::string::npos);
}

TEST(Config, RefusesByTheFieldsName) {
  struct Bad {
    const char *name, *value, *message;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"hidden_size", "0", "hidden_size: expected an integer from 1 to 1048576, found 0"},
           {"hidden_size", "-64", "hidden_size: expected an integer from 1 to 1048576, found -64"},
           {"hidden_size", "64.0", "hidden_size: expected an integer from 1 to 1048576, found 64.0"},
           {"hidden_size", "\"64\"", "hidden_size: expected an integer from 1 to 1048576, found a string"},
           {"hidden_size", "null", "hidden_size: expected an integer from 1 to 1048576, found nothing"},
           {"hidden_size", "18446744073709551615", "hidden_size: expected an integer"},
           {"hidden_size", "9223372036854775807", "hidden_size: expected an integer"},
           {"hidden_size", "66", "hidden_size: expected a multiple of num_attention_heads 4, found 66"},
           {"num_hidden_layers", "1000000000", "num_hidden_layers: expected an integer from 1 to 1024"},
           {"num_attention_heads", "true", "num_attention_heads: expected an integer"},
           {"num_key_value_heads", "3", "expected attention heads in groups of 3 KV heads, found 4"},
           {"num_key_value_heads", "0", "num_key_value_heads: expected an integer from 1"},
           {"head_dim", "15", "head_dim: expected a multiple of 8, found 15"},
           {"head_dim", "4096", "head_dim: expected an integer from 2 to 1024"},
           {"intermediate_size", "[]", "intermediate_size: expected an integer"},
           {"vocab_size", "1e9", "vocab_size: expected an integer"},
           {"max_position_embeddings", "99999999999", "max_position_embeddings: expected an integer"},
           {"rms_norm_eps", "0", "rms_norm_eps: expected a number above 0, found 0"},
           {"rms_norm_eps", "-1e-5", "rms_norm_eps: expected a number above 0"},
           {"rope_theta", "1", "rope_theta: expected a number above 1"},
           {"tie_word_embeddings", "1", "tie_word_embeddings: expected true or false, found 1"},
           {"mlp_bias", "true", "mlp_bias: expected false, found true"},
           {"hidden_act", "\"gelu\"", "hidden_act: expected silu, found gelu"},
           {"torch_dtype", "\"float64\"", "dtype: expected float32, float16 or bfloat16, found float64"},
           {"eos_token_id", "100", "eos_token_id: expected token ids below 100"},
           {"eos_token_id", "[1,\"2\"]", "eos_token_id: expected token ids"},
           {"bos_token_id", "100", "bos_token_id: expected an integer from -1 to 99, found 100"},
           {"model_type", "\"gemma\"",
            "model_type: expected one of glm4_moe, gpt_oss, granite, granitemoe, granitemoeshared, llama, minimax_m2, "
            "mistral, mixtral, olmoe, qwen2, qwen2_moe, qwen3, qwen3_moe, found gemma"},
           {"model_type", "null", "model_type: expected a string"},
           {"architectures", "[\"LlamaForSequenceClassification\"]", "architectures: expected one ...ForCausalLM"},
           {"auto_map", "{\"AutoModel\":\"evil.Model\"}", "auto_map: a checkpoint's own code is not run"},
           {"rope_scaling", "3", "rope_scaling: expected an object"},
           {"rope_scaling", R"({"type":"longrope","factor":2})",
            "rope_type: expected default, linear, dynamic, llama3 or"},
           {"rope_scaling", R"({"type":"linear"})", "rope_scaling: factor: expected a number above 0, found nothing"},
           {"rope_scaling", R"({"type":"linear","factor":0})", "rope_scaling: factor: expected a number above 0"},
           {"rope_scaling", R"({"rope_type":"llama3","factor":8})",
            "original_max_position_embeddings: expected a number"},
           {"rope_scaling", R"({"rope_type":"default","partial_rotary_factor":0.5})",
            "partial_rotary_factor: expected 1"},
       }) {
    const auto c = config_of(with(kLlama, bad.name, bad.value));
    ASSERT_FALSE(c.ok()) << bad.message;
    EXPECT_NE(c.status().message().find(bad.message), std::string::npos) << c.status().message();
    EXPECT_NE(c.status().message().find("config.json: "), std::string::npos) << c.status().message();
    EXPECT_EQ(c.status().message().find('\n'), std::string::npos);
  }
  EXPECT_NE(config_of(with(kMixtral, "num_experts_per_tok", "9"))
                .status()
                .message()
                .find("expected at most 8 experts per token, found 9"),
            std::string::npos);
  EXPECT_FALSE(config_of(with(kMixtral, "num_local_experts", "0")).ok());
  EXPECT_NE(config_of("x").status().message().find("config.json: JSON: syntax error"), std::string::npos);
}

// What would make another model of GLM's or MiniMax's config.
TEST(Config, SigmoidRouters) {
  const auto typed = [](const char* type, const char* more) {
    return config_of(cat(with(kLlama, "model_type", type), more));
  };
  const auto glm = typed("\"glm4_moe\"",
                         R"(,"n_routed_experts":6,"num_experts_per_tok":3,"moe_intermediate_size":24,"head_dim":16)");
  ASSERT_TRUE(glm.ok()) << glm.status().message();
  EXPECT_EQ(glm->layers[0].feed_forward.experts, 0);
  EXPECT_EQ(glm->layers[0].attention.rotary, 8);
  EXPECT_EQ(glm->draft_layers, 1);
  const auto minimax = typed("\"minimax_m2\"", R"(,"rotary_dim":8,"head_dim":16,"auto_map":{"AutoConfig":"c.C"})");
  ASSERT_TRUE(minimax.ok()) << minimax.status().message();
  EXPECT_EQ(minimax->layers[0].attention.rotary, 8);
  EXPECT_EQ(minimax->layers[0].feed_forward.experts, 256);
  struct Bad {
    const char *type, *more, *message;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"\"glm4_moe\"", R"(,"n_group":4,"topk_group":2)", "topk_group: expected as many as n_group 4, found 2"},
           {"\"glm4_moe\"", R"(,"partial_rotary_factor":1.5)", "partial_rotary_factor: expected at most 1, found 1.5"},
           {"\"glm4_moe\"", R"(,"head_dim":8,"partial_rotary_factor":0.4)", "an even number of rotated channels"},
           {"\"minimax_m2\"", R"(,"scoring_func":"softmax")", "scoring_func: expected sigmoid, found softmax"},
           {"\"minimax_m2\"", R"(,"qk_norm_type":"per_head")", "qk_norm_type: expected per_layer, found per_head"},
           {"\"minimax_m2\"", R"(,"use_routing_bias":false)", "use_routing_bias: expected true, found false"},
           {"\"minimax_m2\"", R"(,"attn_type_list":[1,0])", "attn_type_list: expected 1 of every layer, found 0"},
           {"\"minimax_m2\"", R"(,"shared_intermediate_size":64)", "shared_intermediate_size: expected 0, found 64"},
           {"\"qwen2_moe\"", R"(,"use_sliding_window":true)", "use_sliding_window: expected false, found true"},
       }) {
    const auto c = typed(bad.type, bad.more);
    ASSERT_FALSE(c.ok()) << bad.message;
    EXPECT_NE(c.status().message().find(bad.message), std::string::npos) << c.status().message();
  }
}

// A residual stream that is divided throughout: blocks add to it what they give.
TEST(Config, GranitesMultipliers) {
  const auto granite = [](const std::string& more) {
    return config_of(cat(with(kLlama, "model_type", "\"granite\""), more));
  };
  const auto c = granite(R"(,"embedding_multiplier":12,"residual_multiplier":0.25,"attention_multiplier":0.125,)"
                         R"("logits_scaling":8)");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->embedding_scale, 48.0f);
  EXPECT_EQ(c->logits_scale, 0.125f);
  EXPECT_EQ(c->layers[0].attention.scale, 0.125f);
  EXPECT_FLOAT_EQ(c->rms_epsilon, config_of(kLlama)->rms_epsilon * 16);
  for (const char* name : {"embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"}) {
    const auto bad = granite(cat(",\"", name, "\":0"));
    ASSERT_FALSE(bad.ok());
    EXPECT_NE(bad.status().message().find(cat(name, ": expected a number above 0")), std::string::npos)
        << bad.status().message();
  }
}

TEST(Config, TakesTheFp8FlavoursAndRefusesOtherQuantization) {
  const auto with_quantization = [](const char* field, const std::string& q) {
    return config_of(with(kLlama, field, q));
  };
  const std::string groups =
      R"("config_groups":{"group_0":{"weights":{"num_bits":8,"type":"float","strategy":"channel"},)"
      R"("input_activations":{"num_bits":8,"type":"float","dynamic":true,"strategy":"token"}}})";
  std::string static_groups = groups;
  static_groups.replace(groups.find("true"), 4, "false");
  struct Good {
    const char* field;
    std::string q;
    bool is_static = false, blocks = false;
  };
  const std::vector<Good> good = {
      {"quantization_config", R"({"quant_method":"fp8","activation_scheme":"dynamic","ignored_layers":["lm_head"]})"},
      {"quantization_config", R"({"quant_method":"fp8","activation_scheme":"static"})", true},
      {"quantization_config", R"({"quant_method":"fp8","fmt":"e4m3","weight_block_size":[128,128]})", false, true},
      {"quantization_config", R"({"quant_method":"modelopt","quant_algo":"FP8","exclude_modules":["lm_head"]})", true},
      {"quantization_config", cat(R"({"quant_method":"compressed-tensors","format":"float-quantized",)", groups, "}")},
      {"quantization_config", cat(R"({"quant_method":"compressed_tensors","format":"float-quantized",)", groups, "}")},
      {"quantization_config",
       cat(R"({"quant_method":"compressed-tensors","format":"float-quantized",)", static_groups, "}"), true},
      {"compression_config", cat(R"({"format":"float-quantized",)", groups, "}")},
      {"quantization_config", R"({"quant_method":"fbgemm_fp8","activation_scale_ub":1200.0})"},
  };
  for (const auto& [field, q, is_static, blocks] : good) {
    const auto c = with_quantization(field, q);
    ASSERT_TRUE(c.ok()) << q << ": " << c.status().message();
    EXPECT_TRUE(c->quantization.fp8) << q;
    EXPECT_EQ(c->quantization.static_activations, is_static) << q;
    EXPECT_EQ(c->quantization.blocks, blocks) << q;
  }
  std::string int4 = groups;
  int4.replace(int4.find("\"num_bits\":8"), 12, "\"num_bits\":4");
  const std::vector<std::pair<const char*, std::string>> bad = {
      {"quant_method: expected awq, compressed-tensors, fbgemm_fp8, fp8, gptq, modelopt or mxfp4, found bitsandbytes",
       R"({"quant_method":"bitsandbytes","bits":4})"},
      {"quant_method: expected awq, compressed-tensors, fbgemm_fp8, fp8, gptq, modelopt or mxfp4, found nothing",
       R"({"bits":4})"},
      {"bits: expected 4 or 8, found 3", R"({"quant_method":"gptq","bits":3,"group_size":128})"},
      {"group_size: expected -1, or an integer of 8 or more, found 0",
       R"({"quant_method":"gptq","bits":4,"group_size":0})"},
      {"checkpoint_format: expected gptq or gptq_v2, found marlin",
       R"({"quant_method":"gptq","bits":4,"group_size":128,"checkpoint_format":"marlin"})"},
      {"is_marlin_format: expected false", R"({"quant_method":"gptq","bits":4,"is_marlin_format":true})"},
      {"dynamic: expected one form of all matrices", R"({"quant_method":"gptq","bits":4,"dynamic":{"-:.*o_proj":{}}})"},
      {"bits: expected 4, found 8", R"({"quant_method":"awq","bits":8,"group_size":128})"},
      {"version: expected gemm, found gemv", R"({"quant_method":"awq","bits":4,"version":"gemv"})"},
      {"zero_point: expected true, found false", R"({"quant_method":"awq","w_bit":4,"zero_point":false})"},
      {"weight_block_size: expected [128, 128], found an array",
       R"({"quant_method":"fp8","weight_block_size":[64,64]})"},
      {"fmt: expected e4m3, found e5m2", R"({"quant_method":"fp8","fmt":"e5m2"})"},
      {"activation_scheme: expected static or dynamic, found odd",
       R"({"quant_method":"fp8","activation_scheme":"odd"})"},
      {"quant_algo: expected FP8, found NVFP4", R"({"quant_method":"modelopt","quant_algo":"NVFP4"})"},
      {"format: expected float-quantized or pack-quantized, found int-quantized",
       cat(R"({"quant_method":"compressed-tensors","format":"int-quantized",)", groups, "}")},
      {"input_activations: expected none, found an object",
       cat(R"({"quant_method":"compressed-tensors","format":"pack-quantized",)", groups, "}")},
      {"weights: expected 4 or 8 bits of type int, found 4 of float",
       R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"g":{"weights":)"
       R"({"num_bits":4,"type":"float","strategy":"group","group_size":128}}}})"},
      {"expected 8 bits of type float, found 4 of float",
       cat(R"({"quant_method":"compressed-tensors","format":"float-quantized",)", int4, "}")},
      {"kv_cache_scheme: expected 8 bits of type float, found 8 of int",
       R"({"quant_method":"fp8","kv_cache_scheme":{"num_bits":8,"type":"int"}})"},
      {"config_groups: expected at least one group",
       R"({"quant_method":"compressed-tensors","format":"float-quantized"})"},
  };
  for (const auto& [message, q] : bad) {
    const auto c = with_quantization("quantization_config", q);
    ASSERT_FALSE(c.ok()) << message;
    EXPECT_NE(c.status().message().find(message), std::string::npos) << c.status().message();
  }
  TempFolder folder;
  folder.write("config.json", cat("{", kLlama, "}"));
  folder.write("hf_quant_config.json", R"({"quantization":{"quant_algo":"FP8"}})");
  EXPECT_TRUE(read_config(folder.path())->quantization.fp8);
  folder.write("hf_quant_config.json", R"({"quantization":{"quant_algo":"W4A16_AWQ"}})");
  EXPECT_NE(read_config(folder.path()).status().message().find("quant_algo: expected FP8, found W4A16_AWQ"),
            std::string::npos);
}

TEST(Config, RopeTableHoldsCosinesThenSines) {
  const std::vector<float> table = rope_table({.theta = 100.0}, 8, 3);
  ASSERT_EQ(table.size(), 24u);
  EXPECT_EQ(table[0], 1);
  EXPECT_EQ(table[4], 0);
  EXPECT_NEAR(table[16 + 1], std::cos(2 / std::pow(100.0, 0.25)), 1e-7);
  EXPECT_NEAR(table[16 + 5], std::sin(2 / std::pow(100.0, 0.25)), 1e-7);
}

}  // namespace
}  // namespace hearth
