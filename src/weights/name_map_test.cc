#include "weights/name_map.h"

#include <gtest/gtest.h>

#include "weights/test_gguf.h"

namespace hearth {
namespace {

using test::floats;
using test::safetensors;
using test::TempFolder;

constexpr NameRule kRules[] = {
    {"top", "own_top"},
    {"model.layers.#.self_attn", "layers.#.attention"},
    {"model.layers.#.self_attn.q_proj", "layers.#.q"},
    {"model.layers.#.mlp.gate", "layers.#.router"},
    {"model.layers.#.mlp.gate_proj", "layers.#.gate"},
    {"model.layers.#.old.#.w1", "layers.#.experts.#.gate"},
    {"model.layers.#.mlp.experts.gate_up_proj", "layers.#.experts.#.gate", "layers.#.experts.#.up"},
    {"model.layers.#.both", "layers.#.first", "layers.#.second"},
};

Result<std::shared_ptr<const Checkpoint>> open(const TempFolder& folder) {
  HEARTH_ASSIGN(auto file, open_safetensors_folder(folder.path()));
  return rename_tensors(std::move(file), kRules, {});
}

TEST(NameMap, TheLongestRuleNamesATensor) {
  TempFolder folder;
  std::vector<test::TestTensor> tensors;
  float value = 0;
  for (const char* name : {"top.weight", "model.layers.12.self_attn.q_proj.weight", "model.layers.12.self_attn.k_scale",
                           "model.layers.12.mlp.gate.weight", "model.layers.12.mlp.gate_proj.weight_scale",
                           "model.layers.3.old.45.w1.weight", "topmost.weight", "model.layers.x.mlp.gate.weight",
                           "model.layers.1.mlp.gates.weight", "top"}) {
    tensors.push_back(floats(name, {1}, {++value}));
  }
  folder.write("model.safetensors", safetensors(tensors));
  const auto opened = open(folder);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  value = 0;
  for (const char* name :
       {"own_top.weight", "layers.12.q.weight", "layers.12.attention.k_scale", "layers.12.router.weight",
        "layers.12.gate.weight_scale", "layers.3.experts.45.gate.weight", "topmost.weight",
        "model.layers.x.mlp.gate.weight", "model.layers.1.mlp.gates.weight", "own_top"}) {
    ASSERT_TRUE((*opened)->has(name)) << name;
    EXPECT_EQ(*(*opened)->read(name)->view.as<float>(), ++value) << name;
  }
  // What is missing goes by the file's name, what is wrong too.
  EXPECT_NE((*opened)
                ->read("layers.7.experts.2.gate.weight", {1})
                .status()
                .message()
                .find(": model.layers.7.old.2.w1.weight: expected [1], found no such tensor"),
            std::string::npos);
  EXPECT_NE((*opened)
                ->read("layers.12.q.weight", {2})
                .status()
                .message()
                .find("model.layers.12.self_attn.q_proj.weight: expected [2], found [1]"),
            std::string::npos);
}

TEST(NameMap, RefusesTwoTensorsOfOneName) {
  TempFolder folder;
  folder.write("model.safetensors", safetensors({floats("model.layers.0.self_attn.q_proj.weight", {1}, {1}),
                                                 floats("layers.0.q.weight", {1}, {1})}));
  EXPECT_NE(open(folder).status().message().find("expected once, found under two names"), std::string::npos);
}

TEST(NameMap, TakesFusedExpertsApart) {
  TempFolder folder;
  // Two experts of gate and up [1, 2] each, an odd number of bytes before them: nothing promises alignment.
  test::TestTensor odd{"odd", "U8", {1}, "x"};
  folder.write("model.safetensors",
               safetensors({odd, floats("model.layers.0.mlp.experts.gate_up_proj", {2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}),
                            floats("model.layers.0.mlp.experts.gate_up_proj_scale", {2, 1, 1}, {10, 20}),
                            floats("model.layers.0.mlp.gate.weight", {1, 1}, {9})}));
  const auto opened = open(folder);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const auto value = [&](const char* name) { return *(*opened)->read(name)->view.as<float>(); };
  EXPECT_EQ(value("layers.0.experts.0.gate.weight"), 1);
  EXPECT_EQ(value("layers.0.experts.0.up.weight"), 3);
  EXPECT_EQ(value("layers.0.experts.1.gate.weight"), 5);
  EXPECT_EQ(value("layers.0.experts.1.up.weight"), 7);
  EXPECT_EQ(value("layers.0.experts.1.gate.weight_scale"), 20);
  EXPECT_EQ(value("layers.0.experts.1.up.weight_scale"), 20);
  EXPECT_EQ(value("layers.0.router.weight"), 9);

  folder.write("model.safetensors",
               safetensors({floats("model.layers.0.mlp.experts.gate_up_proj", {1, 3, 1}, {1, 2, 3})}));
  EXPECT_NE(open(folder).status().message().find("an even number of rows, found 3"), std::string::npos);
}

// As gpt-oss has them: gate and up in turns, columns before rows, biases of all experts in one tensor.
TEST(NameMap, TakesTurnsAndTurnedExpertsApart) {
  constexpr NameRule kTurns[] = {
      {"x.sinks", "sinks.weight"},
      {.file = "x.gate_up", .own = "#.gate", .second = "#.up", .order = RowOrder::kInTurns, .columns_first = true},
      {.file = "x.down", .own = "#.down", .columns_first = true},
      {.file = "x.up_exps", .own = "#.other"},
  };
  TempFolder folder;
  // Two experts; [3 columns, 4 rows] of gate and up; [2 columns, 3 rows] of down.
  std::vector<float> gate_up(24), down(12);
  for (size_t i = 0; i < 24; ++i) gate_up[i] = static_cast<float>(i);
  for (size_t i = 0; i < 12; ++i) down[i] = static_cast<float>(100 + i);
  folder.write(
      "model.safetensors",
      safetensors({floats("x.gate_up", {2, 3, 4}, gate_up), floats("x.down", {2, 2, 3}, down),
                   floats("x.gate_up_bias", {2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}), floats("x.sinks", {2}, {8, 9}),
                   floats("x.down_bias", {2, 3}, {1, 2, 3, 4, 5, 6}), floats("x.up_exps.bias", {2, 2}, {1, 2, 3, 4})}));
  const auto file = open_safetensors_folder(folder.path());
  ASSERT_TRUE(file.ok());
  const auto opened = rename_tensors(*file, kTurns, {});
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const auto values = [&](const char* name, const Shape& shape) {
    const auto read = (*opened)->read(name, shape);
    EXPECT_TRUE(read.ok()) << read.status().message();
    const float* from = read->view.as<float>();
    return std::vector<float>(from, from + shape.elements());
  };
  EXPECT_EQ(values("1.gate.weight", {2, 3}), (std::vector<float>{12, 16, 20, 14, 18, 22}));
  EXPECT_EQ(values("1.up.weight", {2, 3}), (std::vector<float>{13, 17, 21, 15, 19, 23}));
  EXPECT_EQ(values("0.down.weight", {3, 2}), (std::vector<float>{100, 103, 101, 104, 102, 105}));
  EXPECT_EQ(values("1.gate.bias", {2}), (std::vector<float>{5, 7}));
  EXPECT_EQ(values("1.up.bias", {2}), (std::vector<float>{6, 8}));
  EXPECT_EQ(values("1.down.bias", {3}), (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(values("1.other.bias", {2}), (std::vector<float>{3, 4}));
  EXPECT_EQ(values("sinks.weight", {2}), (std::vector<float>{8, 9}));
  const auto part = (*opened)->read_part("1.up.weight", {{1, 2}, {1, 3}});
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(part->view.as<float>()[0], 19);
  EXPECT_EQ(part->view.as<float>()[1], 23);
  // What is missing goes by the file's name.
  EXPECT_EQ((*opened)->name_in_file("sinks.weight"), "x.sinks");

  const auto refusal = [&](const test::TestTensor& tensor) {
    folder.write("model.safetensors", safetensors({tensor}));
    return rename_tensors(*open_safetensors_folder(folder.path()), kTurns, {}).status().message();
  };
  EXPECT_NE(refusal(floats("x.down_bias", {2}, {1, 2})).find("x.down_bias: expected [experts, rows], found [2]"),
            std::string::npos);
  EXPECT_NE(refusal(floats("x.gate_up", {1, 1, 3}, {1, 2, 3})).find("an even number of rows, found 3"),
            std::string::npos);
}

TEST(NameMap, TakesTwoMatricesApart) {
  TempFolder folder;
  folder.write("model.safetensors", safetensors({floats("model.layers.2.both.weight", {4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}),
                                                 floats("model.layers.2.both.weight_scale", {4, 1}, {10, 20, 30, 40}),
                                                 floats("model.layers.2.both.input_scale", {}, {0.5f})}));
  const auto opened = open(folder);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const auto values = [&](const char* name, const Shape& shape) {
    const auto found = (*opened)->read(name, shape);
    EXPECT_TRUE(found.ok()) << found.status().message();
    return std::vector<float>(found->view.as<float>(), found->view.as<float>() + shape.elements());
  };
  EXPECT_EQ(values("layers.2.first.weight", {2, 2}), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(values("layers.2.second.weight", {2, 2}), (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(values("layers.2.first.weight_scale", {2, 1}), (std::vector<float>{10, 20}));
  EXPECT_EQ(values("layers.2.second.weight_scale", {2, 1}), (std::vector<float>{30, 40}));
  EXPECT_EQ(values("layers.2.second.input_scale", {}), (std::vector<float>{0.5f}));
  const auto row = (*opened)->read_rows("layers.2.second.weight", 1, 1);
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(row->view.as<float>()[0], 7);

  folder.write("model.safetensors", safetensors({floats("model.layers.2.both.weight", {3, 1}, {1, 2, 3})}));
  EXPECT_NE(open(folder).status().message().find("expected an even number of rows, found 3"), std::string::npos);
}

TEST(NameMap, RefusesFusedScalesThatGateAndUpShare) {
  // Two experts whose gate has `rows` rows, with `scales` rows of scales for gate and up together.
  const auto refusal = [](int64_t rows, int64_t scales) {
    TempFolder folder;
    const auto zeros = [](const char* name, std::vector<int64_t> shape) {
      return floats(name, shape, std::vector<float>(static_cast<size_t>(shape[0] * shape[1] * shape[2])));
    };
    folder.write("model.safetensors",
                 safetensors({zeros("model.layers.0.mlp.experts.gate_up_proj", {2, 2 * rows, 1}),
                              zeros("model.layers.0.mlp.experts.gate_up_proj_scale_inv", {2, scales, 1})}));
    return open(folder).status().message();
  };
  for (const auto& [rows, scales] : {std::pair{128, 2}, {256, 4}, {200, 400}, {200, 1}, {64, 2}}) {
    EXPECT_EQ(refusal(rows, scales), "") << rows << " " << scales;
  }
  EXPECT_NE(refusal(200, 4).find("gate_up_proj_scale_inv: expected blocks of 128 rows within gate or up, found gate "
                                 "to have 200"),
            std::string::npos);
  EXPECT_NE(refusal(136, 3).find("an even number of rows, found 3"), std::string::npos);

  TempFolder folder;
  folder.write("model.safetensors",
               safetensors({floats("model.layers.0.mlp.experts.gate_up_proj_activation_scale", {2, 1}, {1, 2})}));
  EXPECT_NE(open(folder).status().message().find("expected [experts], found [2, 1]"), std::string::npos);
}

// GGUF's rows of a rotary head: (0, half), (1, half + 1), ...
TEST(NameMap, PutsPairedRowsInOrder) {
  constexpr NameRule kPaired[] = {{"q", "own_q", {}, RowOrder::kQueryPairs}, {"k", "own_k", {}, RowOrder::kKeyPairs}};
  TempFolder folder;
  folder.write(
      "model.safetensors",
      safetensors({floats("q.weight", {8, 2}, {0, 0, 2, 2, 1, 1, 3, 3, 4, 4, 6, 6, 5, 5, 7, 7}),
                   floats("q.bias", {8}, {0, 2, 1, 3, 4, 6, 5, 7}), floats("k.weight", {4, 1}, {0, 2, 1, 3})}));
  const auto mapped = [&](const HeadCounts& heads) {
    return rename_tensors(*open_safetensors_folder(folder.path()), kPaired, heads);
  };
  const auto good = mapped({2, 1});
  ASSERT_TRUE(good.ok()) << good.status().message();
  const HostTensor q = *(*good)->read("own_q.weight", {8, 2}), bias = *(*good)->read("own_q.bias", {8}),
                   k = *(*good)->read("own_k.weight", {4, 1});
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(q.view.as<float>()[2 * i + 1], i);
    EXPECT_EQ(bias.view.as<float>()[i], i);
    if (i < 4) {
      EXPECT_EQ(k.view.as<float>()[i], i);
    }
  }
  EXPECT_NE(mapped({3, 1}).status().message().find("q.bias: expected rows of 3 heads, found 8"), std::string::npos);
}

}  // namespace
}  // namespace hearth
