#include "weights/gguf.h"

#include <gtest/gtest.h>

#include <functional>

#include "weights/checkpoint.h"
#include "weights/safetensors.h"
#include "weights/test_gguf.h"

namespace hearth {
namespace {

using test::array;
using test::raw;
using test::TempFolder;
using test::tensor;
using test::text;
using test::value;
using Parts = test::GgufParts;

// tools/make_model_goldens.py: raw blocks, and the gguf package's values for them.
TEST(GgmlQuant, EveryTypeToTheBit) {
  const auto golden = SafetensorsFile::open("tests/golden/models/ggml_blocks/blocks.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  int types = 0;
  for (uint32_t type = 1; type <= 39; ++type) {
    const GgmlTypeInfo* info = ggml_type_info(type);
    if (info == nullptr) continue;
    ++types;
    const Tensor& bytes = golden->tensors().find(cat(info->name, ".raw"))->second;
    const Tensor& expected = golden->tensors().find(info->name)->second;
    const int64_t n = expected.shape.elements();
    ASSERT_EQ(bytes.bytes(), n / info->block_elements * info->block_bytes) << info->name;
    std::vector<float> found(static_cast<size_t>(n));
    dequantize_ggml(static_cast<GgmlType>(type), static_cast<const char*>(bytes.data), n, found.data());
    EXPECT_EQ(std::memcmp(found.data(), expected.data, found.size() * sizeof(float)), 0) << info->name;
  }
  EXPECT_EQ(types, 15);
}

TEST(Gguf, ReadsMetadataAndTensors) {
  TempFolder folder;
  Parts p;
  p.values.push_back(value("f", GgufType::kF32, raw(0.5f)));
  p.values.push_back(value("b", GgufType::kBool, "\1"));
  p.values.push_back(value("big", GgufType::kU64, raw(uint64_t{1} << 40)));
  p.values.push_back(value("negative", GgufType::kI8, "\xff"));
  p.values.push_back(value("words", GgufType::kArray, array(GgufType::kString, 2, text("one") + text(""))));
  p.values.push_back(value("ids", GgufType::kArray, array(GgufType::kI32, 2, raw(int32_t{-3}) + raw(int32_t{7}))));
  const auto file = GgufFile::open(folder.write("x.gguf", p.bytes()));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(*file->string("general.architecture"), "llama");
  EXPECT_EQ(*file->number("f"), 0.5);
  EXPECT_EQ(*file->boolean("b"), true);
  EXPECT_EQ(*file->integer("big"), int64_t{1} << 40);
  EXPECT_EQ(*file->integer("negative"), -1);
  EXPECT_EQ(*file->integer("missing", 5), 5);
  EXPECT_EQ(*file->strings("words"), (std::vector<std::string_view>{"one", ""}));
  EXPECT_EQ(*file->integers("ids"), (std::vector<int64_t>{-3, 7}));
  EXPECT_TRUE(file->strings("missing")->empty());
  EXPECT_NE(file->integer("f", 5).status().message().find("f: expected an integer, found another type"),
            std::string::npos);
  EXPECT_FALSE(file->integer("missing").ok());
  EXPECT_FALSE(file->strings("ids").ok());
  EXPECT_FALSE(file->floats("ids").ok());
  EXPECT_EQ(file->tensors().find("blk.0.attn_q.weight")->second.bytes.size(), 512u);
}

TEST(Gguf, RefusesBadFilesInOneLine) {
  struct Bad {
    const char* message;  // a part of it
    std::function<void(Parts&)> change;
  };
  const uint64_t huge = ~uint64_t{0};
  const std::vector<Bad> all = {
      {"expected a GGUF file", [](Parts& p) { p.magic = "GGML"; }},
      {"version 2 or 3, found 1", [](Parts& p) { p.version = 1; }},
      {"version 2 or 3, found 50331648", [](Parts& p) { p.version = 0x03000000; }},  // big-endian
      {"tensor count", [&](Parts& p) { p.num_tensors = huge; }},
      {"tensor count", [](Parts& p) { p.num_tensors = 1'000'000; }},
      {"metadata count", [&](Parts& p) { p.num_values = huge; }},
      {"expected 1 to 4 dimensions, found 0", [](Parts& p) { p.num_tensors = 20; }},
      {"metadata key at byte", [&](Parts& p) { p.values[0] = raw(huge); }},
      {"general.architecture at byte",
       [&](Parts& p) { p.values[0] = text("general.architecture") + raw(8u) + raw(huge); }},
      {"k: expected a value type of 0 to 12, found 13", [](Parts& p) { p.values[0] = text("k") + raw(13u) + raw(0u); }},
      {"k: expected a bool of 0 or 1, found 2", [](Parts& p) { p.values[0] = value("k", GgufType::kBool, "\2"); }},
      {"k: expected an integer below 2^63", [&](Parts& p) { p.values[0] = value("k", GgufType::kU64, raw(huge)); }},
      {"k: expected an array of scalars or strings, found element type 9",
       [](Parts& p) { p.values[0] = value("k", GgufType::kArray, array(GgufType::kArray, 1, "")); }},
      {"k: expected an array of scalars or strings, found element type 99",
       [](Parts& p) { p.values[0] = value("k", GgufType::kArray, array(GgufType{99}, 1, "")); }},
      {"k at byte",
       [&](Parts& p) { p.values[0] = value("k", GgufType::kArray, array(GgufType::kF64, huge / 8 + 2, "")); }},
      {"k at byte",
       [&](Parts& p) { p.values[0] = value("k", GgufType::kArray, array(GgufType::kString, 1, raw(huge))); }},
      {"k: expected once, found twice",
       [](Parts& p) {
         p.values = {value("k", GgufType::kBool, "\1"), value("k", GgufType::kBool, "\1")};
       }},
      {"general.alignment: expected a power of two",
       [](Parts& p) { p.values[0] = value("general.alignment", GgufType::kU32, raw(0u)); }},
      {"general.alignment: expected a power of two",
       [](Parts& p) { p.values[0] = value("general.alignment", GgufType::kU32, raw(24u)); }},
      {"t: expected 1 to 4 dimensions, found 0", [](Parts& p) { p.tensors[0] = tensor("t", {}, 0, 0); }},
      {"t: expected 1 to 4 dimensions, found 5",
       [](Parts& p) {
         p.tensors[0] = tensor("t", {1, 1, 1, 1, 1}, 0, 0);
       }},
      {"t: expected dimensions whose product", [](Parts& p) { p.tensors[0] = tensor("t", {0}, 0, 0); }},
      {"t: expected dimensions whose product", [&](Parts& p) { p.tensors[0] = tensor("t", {huge}, 0, 0); }},
      {"t: expected dimensions whose product",
       [](Parts& p) {
         p.tensors[0] = tensor("t", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0);
       }},
      {"t: expected fewer than 2^63 bytes", [](Parts& p) { p.tensors[0] = tensor("t", {uint64_t{1} << 62}, 0, 0); }},
      {"t: expected one of the types F32", [](Parts& p) { p.tensors[0] = tensor("t", {32}, 4, 0); }},
      {"t: expected one of the types F32", [](Parts& p) { p.tensors[0] = tensor("t", {32}, 99, 0); }},
      {"t: Q8_0 expected rows of a multiple of 32, found 33", [](Parts& p) { p.tensors[0] = tensor("t", {33}, 8, 0); }},
      {"t: expected an offset that is a multiple of 32, found 8",
       [](Parts& p) { p.tensors[0] = tensor("t", {32}, 0, 8); }},
      {"t: expected an offset that is a multiple of 32, found 18446744073709551584",
       [&](Parts& p) { p.tensors[0] = tensor("t", {32}, 0, huge - 31); }},
      {"t: expected 128 bytes at 9223372036854775776",
       [](Parts& p) { p.tensors[0] = tensor("t", {32}, 0, (uint64_t{1} << 63) - 32); }},
      {"blk.0.attn_q.weight: expected 512 bytes at 96 of the data, found 607", [](Parts& p) { --p.data_bytes; }},
      {"blk.0.attn_q.weight: expected data from byte 128 on, found it overlapping at 96",
       [](Parts& p) { p.tensors[0] = tensor("t", {32}, 0, 0); }},
      {"token_embd.weight: expected once, found twice",
       [](Parts& p) {
         p.tensors[1] = tensor("token_embd.weight", {32, 2}, 8, 96);
       }},
  };
  TempFolder folder;
  for (const Bad& bad : all) {
    Parts p;
    bad.change(p);
    const auto file = GgufFile::open(folder.write("x.gguf", p.bytes()));
    ASSERT_FALSE(file.ok()) << bad.message;
    const std::string& message = file.status().message();
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.message << ": " << message;
    EXPECT_NE(message.find("x.gguf: "), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  const std::string whole = Parts().bytes();
  for (size_t size = 0; size < whole.size(); size += 11) {
    EXPECT_FALSE(GgufFile::open(folder.write("x.gguf", whole.substr(0, size))).ok()) << size;
  }
}

TEST(Gguf, RefusesVocabulariesWithHoles) {
  const auto vocabulary = [](const std::string& tokens, const std::string& more = "") {
    Parts p;
    p.values = {value("tokenizer.ggml.model", GgufType::kString, text("gpt2")), tokens};
    if (!more.empty()) p.values.push_back(more);
    return p.bytes();
  };
  const auto tokens = [](uint64_t n, const std::string& texts) {
    return value("tokenizer.ggml.tokens", GgufType::kArray, array(GgufType::kString, n, texts));
  };
  const std::string two = tokens(2, text("a") + text("b"));
  const auto id = [](const char* which, int32_t v) {
    return value(cat("tokenizer.ggml.", which), GgufType::kI32, raw(v));
  };
  const std::vector<std::pair<const char*, std::string>> bad = {
      {"tokens: expected a vocabulary, found none", vocabulary(tokens(0, ""))},
      {"tokens: expected a text for every token, found none for 1", vocabulary(tokens(2, text("a") + text("")))},
      {"scores: expected 2 entries, found 1",
       vocabulary(two, value("tokenizer.ggml.scores", GgufType::kArray, array(GgufType::kF32, 1, raw(1.0f))))},
      {"token_type: expected 2 entries, found 1",
       vocabulary(two, value("tokenizer.ggml.token_type", GgufType::kArray, array(GgufType::kI32, 1, raw(1))))},
      {"tokens: expected an array of strings",
       vocabulary(value("tokenizer.ggml.tokens", GgufType::kArray, array(GgufType::kU8, 1, "x")))},
      {"eos_token_id: expected an id below 2, found 2", vocabulary(two, id("eos_token_id", 2))},
      {"bos_token_id: expected an id below 2, found -1", vocabulary(two, id("bos_token_id", -1))},
  };
  TempFolder folder;
  for (const auto& [message, bytes] : bad) {
    const auto file = GgufFile::open(folder.write("x.gguf", bytes));
    ASSERT_TRUE(file.ok()) << file.status().message();
    const auto tokenizer = read_gguf_tokenizer(*file);
    ASSERT_FALSE(tokenizer.ok()) << message;
    EXPECT_NE(tokenizer.status().message().find(message), std::string::npos) << tokenizer.status().message();
  }
  const auto file = GgufFile::open(folder.write("x.gguf", vocabulary(two, id("eos_token_id", 1))));
  EXPECT_EQ(read_gguf_tokenizer(*file)->eos, 1);
}

TEST(GgufFile, AFileInParts) {
  const auto u16 = [](std::string_view key, uint16_t v) { return value(key, GgufType::kU16, raw(v)); };
  const auto part = [&](uint16_t number, uint16_t count, std::string_view tensor_name, int32_t tensors = 3) {
    Parts p;
    if (number > 0) p.values.clear();
    p.values.push_back(u16("split.no", number));
    p.values.push_back(u16("split.count", count));
    p.values.push_back(value("split.tensors.count", GgufType::kI32, raw(tensors)));
    p.tensors = {tensor(tensor_name, {4}, 0, 0)};
    p.data_bytes = 16;
    std::string bytes = p.bytes();
    bytes.back() = static_cast<char>(number + 1);
    return bytes;
  };
  TempFolder folder;
  const auto first = folder.write("m-00001-of-00003.gguf", part(0, 3, "a"));
  folder.write("m-00002-of-00003.gguf", part(1, 3, "b"));
  const auto third = folder.write("m-00003-of-00003.gguf", part(2, 3, "c"));
  const auto file = GgufFile::open(first);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors().at("a").bytes.back(), 1);
  EXPECT_EQ(file->tensors().at("c").bytes.back(), 3);
  EXPECT_EQ(*file->integer("llama.attention.head_count"), 2);

  const auto refusal = [&](const std::filesystem::path& path) { return GgufFile::open(path).status().message(); };
  EXPECT_NE(refusal(third).find("m-00003-of-00003.gguf: a part of a split file, expected the first"),
            std::string::npos);
  EXPECT_NE(refusal(folder.write("renamed.gguf", part(0, 3, "a"))).find("its name ending in -00001-of-00003.gguf"),
            std::string::npos);
  folder.write("m-00003-of-00003.gguf", part(1, 3, "c"));
  EXPECT_NE(refusal(first).find("m-00003-of-00003.gguf: expected to be part 3 of 3, found part 2 of 3"),
            std::string::npos);
  folder.write("m-00003-of-00003.gguf", part(2, 3, "b"));
  EXPECT_NE(refusal(first).find("b: expected once, found twice"), std::string::npos);
  folder.write("m-00001-of-00003.gguf", part(0, 3, "a", 4));
  folder.write("m-00003-of-00003.gguf", part(2, 3, "c"));
  EXPECT_NE(refusal(first).find("expected 4 tensors in all parts, found 3"), std::string::npos);
  std::filesystem::remove(third);
  EXPECT_NE(refusal(first).find("m-00003-of-00003.gguf: No such file"), std::string::npos);

  EXPECT_EQ(gguf_part_number("m-00012-of-00345.gguf"), 12);
  for (const char* other :
       {"m.gguf", "m-00001-of-00003", "m-0001-of-00003.gguf", "-1-of-2.gguf", "m-000x1-of-00003.gguf"}) {
    EXPECT_EQ(gguf_part_number(other), 0) << other;
  }
}

TEST(GgufCheckpoint, RefusesValuesBeyondFloat16) {
  TempFolder folder;
  // A scale of infinity in a Q8_0 block.
  Parts p;
  std::string bytes = p.bytes();
  const size_t data = bytes.size() - p.data_bytes;
  bytes[data] = 0x00;
  bytes[data + 1] = 0x7C;
  bytes[data + 2] = 1;
  const auto opened = open_gguf_checkpoint(folder.write("x.gguf", bytes));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_NE((*opened)->read("token_embd.weight").status().message().find("expected values within float16"),
            std::string::npos);
}

}  // namespace
}  // namespace hearth
