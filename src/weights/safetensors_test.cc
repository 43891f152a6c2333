#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include "weights/checkpoint.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

using test::floats;
using test::raw;
using test::safetensors;
using test::TempFolder;

TEST(Safetensors, ReadsATensor) {
  TempFolder folder;
  const std::string header = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"I8","shape":[],"data_offsets":[8,9]},)"
                             R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                             R"("none":{"dtype":"F16","shape":[0,3],"data_offsets":[9,9]}}   )";
  const auto file = SafetensorsFile::open(folder.write("x", safetensors(header, raw(1.5f) + raw(-2.0f) + "\x07")));
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), 3u);
  const Tensor& a = file->tensors().find("a")->second;
  EXPECT_EQ(a.shape, (Shape{2, 1}));
  float values[2];
  std::memcpy(values, a.data, 8);
  EXPECT_EQ(values[1], -2.0f);
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* message;  // a part of it
};

std::string one(const char* entry, size_t data_bytes) {
  return safetensors(cat("{\"t\":", entry, "}"), std::string(data_bytes, 0));
}

std::vector<BadFile> bad_files() {
  return {
      {"empty", "", "expected 8 bytes of header size, found 0"},
      {"seven bytes", std::string(7, 0), "expected 8 bytes of header size, found 7"},
      {"no header", std::string(8, 0), "header: JSON"},
      {"header beyond the file", raw(uint64_t{3}) + "{}", "expected a header of at most 2 bytes, found 3"},
      {"header size of 2^64 - 1", raw(~uint64_t{0}) + "{}", "expected a header of at most 2 bytes"},
      {"header above 100 MB", raw(uint64_t{100'000'001}) + std::string(100'000'002, ' '), "at most 100000000 bytes"},
      {"not JSON", safetensors("{x}", ""), "header: JSON"},
      {"array", safetensors("[]", ""), "header: JSON"},
      {"nested too deep", one(R"({"dtype":[[[[[]]]]],"shape":[1],"data_offsets":[0,4]})", 4), "nested too deep"},
      {"duplicate tensor",
       safetensors(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                   R"("t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                   "ab"),
       "duplicate key"},
      {"no shape", one(R"({"dtype":"F32","data_offsets":[0,4]})", 4), "x: t: expected an object of dtype, shape"},
      {"unknown member", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":0})", 4),
       "x: t: expected an object"},
      {"unknown dtype", one(R"({"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]})", 4),
       "x: t: expected dtype F32, F16, BF16, F8_E4M3, I8, U8, I32 or I64, found F8_E5M2"},
      {"dtype a number", one(R"({"dtype":4,"shape":[1],"data_offsets":[0,4]})", 4), "found no string"},
      {"negative dimension", one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4), "dimensions of 0 or more"},
      {"fractional dimension", one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4),
       "dimensions of 0 or more"},
      {"rank 5", one(R"({"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]})", 4),
       "at most 4 dimensions, found 5"},
      {"product overflows", one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0),
       "fewer than 2^63 bytes"},
      {"product wraps to the right size",
       one(R"({"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]})", 4), "fewer than 2^63 bytes"},
      {"dimension above int64", one(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]})", 4),
       "dimensions of 0 or more"},
      {"shape x dtype is not bytes", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4),
       "x: t: expected 8 bytes for float32 [2], found 4"},
      {"reversed offsets", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4),
       "expected data_offsets in order"},
      {"negative offset", one(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", 4), "two integers of 0 or more"},
      {"one offset", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4]})", 4), "two integers of 0 or more"},
      {"data past the end", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 3),
       "x: t: expected data up to byte 4, found 3 bytes"},
      {"trailing data", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 5),
       "expected 4 bytes of data, found 5"},
      {"gap before the first", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8),
       "from byte 0, found it at 4"},
      {"overlap",
       safetensors(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                   R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                   "abcdef"),
       "x: b: expected data from byte 4, found it at 2"},
      {"gap",
       safetensors(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                   R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
                   "abcdef"),
       "x: b: expected data from byte 2, found it at 4"},
      {"control characters in a name", safetensors("{\"a\\nb\":{\"dtype\":\"F32\"}}", ""),
       "x: a?b: expected an object"},
  };
}

TEST(Safetensors, RefusesBadFilesInOneLine) {
  TempFolder folder;
  for (const BadFile& bad : bad_files()) {
    const auto file = SafetensorsFile::open(folder.write("x", bad.bytes));
    ASSERT_FALSE(file.ok()) << bad.name;
    const std::string& message = file.status().message();
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.name << ": " << message;
    EXPECT_NE(message.find("x: "), std::string::npos) << bad.name << " does not name the file: " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << bad.name;
  }
}

// A folder of two shards; each test breaks it in one way.
struct Sharded {
  TempFolder folder;
  std::string index = R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})";
  std::string first = safetensors({floats("a", {1}, {1})}), second = safetensors({floats("b", {1}, {2})});

  Result<std::shared_ptr<const Checkpoint>> open() const {
    folder.write("model.safetensors.index.json", index);
    folder.write("1.safetensors", first);
    if (!second.empty()) folder.write("2.safetensors", second);
    return open_safetensors_folder(folder.path());
  }
  void expect_refused(std::string_view message) const {
    const auto opened = open();
    ASSERT_FALSE(opened.ok()) << message;
    EXPECT_NE(opened.status().message().find(message), std::string::npos) << opened.status().message();
  }
};

TEST(SafetensorsFolder, ReadsShards) {
  const Sharded good;
  const auto opened = good.open();
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(*(*opened)->read("b")->view.as<float>(), 2.0f);
  EXPECT_EQ((*opened)->read("b", Shape{2}).status().message(),
            cat((good.folder / "2.safetensors").string(), ": b: expected [2], found [1]"));
  EXPECT_NE((*opened)->read("c", Shape{2}).status().message().find("c: expected [2], found no such tensor"),
            std::string::npos);
}

TEST(SafetensorsFolder, RefusesShardsThatDoNotFitTheirIndex) {
  {
    Sharded s;
    s.second = "";
    s.expect_refused("2.safetensors: No such file");
  }
  {
    Sharded s;
    s.index = R"({"weight_map":{"a":"1.safetensors","b":"../2.safetensors"}})";
    s.expect_refused("b: expected the name of a .safetensors file in this folder, found ../2");
  }
  {
    Sharded s;
    s.index = R"({"weight_map":{"a":"1.safetensors","b":"/etc/passwd"}})";
    s.expect_refused("b: expected the name");
  }
  {
    Sharded s;
    s.index = R"({"weight_map":{"a":"1.safetensors","b":3}})";
    s.expect_refused("b: expected the name");
  }
  {
    Sharded s;
    s.index = R"({"weight_map":[]})";
    s.expect_refused("expected a weight_map object");
  }
  {
    Sharded s;
    s.index = "{";
    s.expect_refused("JSON: syntax error");
  }
  {
    Sharded s;
    s.index = R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})";
    s.expect_refused("duplicate key");
  }
  {
    Sharded s;
    s.index = R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}})";
    s.expect_refused("2.safetensors: c: expected by the index, found in no shard");
  }
  {
    Sharded s;
    s.first = safetensors({floats("a", {1}, {1}), floats("b", {1}, {1})});
    s.expect_refused("1.safetensors: b: expected in 2.safetensors alone, found here too");
  }
  {
    Sharded s;
    s.first = safetensors({floats("a", {1}, {1}), floats("x", {1}, {1})});
    s.expect_refused("1.safetensors: x: expected in the index, found in this shard only");
  }
}

TEST(SafetensorsFolder, RefusesAFolderWithoutSafetensors) {
  TempFolder folder;
  EXPECT_NE(open_safetensors_folder(folder.path()).status().message().find("found neither"), std::string::npos);
  folder.write("pytorch_model.bin", "x");
  EXPECT_NE(open_safetensors_folder(folder.path()).status().message().find("a pickle, which is not read"),
            std::string::npos);
}

}  // namespace
}  // namespace hearth
