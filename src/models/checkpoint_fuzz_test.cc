// Golden checkpoints with bits flipped, bytes changed and ends cut off: refused or loaded and run, never a crash. Seeds
// are fixed; HEARTH_FUZZ_ROUNDS=n runs n times as many.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "base/log.h"
#include "cpu/cpu_backend.h"
#include "models/registry.h"
#include "models/single_sequence.h"
#include "weights/mapped_file.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

using Random = std::mt19937_64;

// Most of the meaning is at the front: headers and directories.
size_t somewhere(Random& random, size_t size) {
  const size_t front = std::min<size_t>(size, random() % 2 ? 64 : 4096);
  return random() % (random() % 4 ? front : size);
}

void mutate(std::string& bytes, Random& random) {
  for (size_t edits = 1 + random() % 3; edits > 0 && !bytes.empty(); --edits) {
    const size_t at = somewhere(random, bytes.size());
    switch (random() % 6) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8)); break;
      case 1: bytes[at] = static_cast<char>(random()); break;
      case 2: bytes.resize(at); break;
      case 3: bytes.insert(at, 1 + random() % 8, static_cast<char>(random())); break;
      case 4: bytes.erase(at, 1 + random() % 8); break;
      case 5:  // a digit of a JSON number becomes another, or more of them
        if (const size_t digit = bytes.find_first_of("0123456789", at); digit != bytes.npos && digit < at + 256) {
          bytes.replace(digit, 1, random() % 2 ? std::to_string(random() % 10) : std::to_string(random()));
        }
        break;
    }
  }
}

// True if it loaded.
bool load_and_run(const fs::path& model) {
  const auto backend = make_cpu_backend(DType::kF32, 1);
  auto opened = open_model(model.string());
  if (!opened.ok()) {
    EXPECT_EQ(opened.status().message().find('\n'), std::string::npos) << opened.status().message();
    return false;
  }
  const int64_t length = std::min<int64_t>(16, opened->config.max_positions);
  auto loaded = load_model(std::move(*opened), *backend, {.max_tokens = 4, .max_logits = 1, .max_model_len = length});
  if (!loaded.ok()) {
    EXPECT_EQ(loaded.status().message().find('\n'), std::string::npos) << loaded.status().message();
    return false;
  }
  auto sequence = SingleSequence::create(*backend, *loaded->model, length, 4, 1);
  EXPECT_TRUE(sequence.ok());
  const int32_t token = 0;
  sequence->append({&token, 1}, true, 1);
  return true;
}

TEST(CheckpointFuzz, MutatedFilesNeverCrash) {
  const char* more = std::getenv("HEARTH_FUZZ_ROUNDS");
  const int rounds = 40 * (more == nullptr ? 1 : std::atoi(more));
  set_log_level(LogLevel::kError);
  test::TempFolder folder;
  int loaded = 0, refused = 0;
  for (const char* name : {"llama_float16_sharded", "llama_rope_yarn", "mixtral_transformers4", "mixtral_fused",
                           "fp8_autofp8", "fp8_compressed_channel", "fp8_modelopt", "gguf_llama", "gguf_mixtral",
                           "qwen3_moe", "olmoe", "gguf_qwen3_moe"}) {
    const fs::path golden = cat("tests/golden/models/", name);
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(golden)) {
      const std::string file = entry.path().filename().string();
      if (file != "expected.safetensors") files.push_back(file);
    }
    std::sort(files.begin(), files.end());
    std::vector<std::string> contents;
    for (const std::string& file : files) {
      const auto bytes = read_text_file(golden / file);
      ASSERT_TRUE(bytes.ok());
      contents.push_back(*bytes);
      folder.write(cat(name, "/", file), *bytes);
    }
    const fs::path model =
        std::string_view(name).starts_with("gguf") ? folder / cat(name, "/model.gguf") : folder / name;
    ASSERT_TRUE(load_and_run(model)) << name;
    for (int seed = 0; seed < rounds; ++seed) {
      SCOPED_TRACE(cat(name, ", seed ", seed));
      Random random(static_cast<uint64_t>(seed));
      const size_t i = random() % files.size();
      std::string bytes = contents[i];
      mutate(bytes, random);
      folder.write(cat(name, "/", files[i]), bytes);
      ++(load_and_run(model) ? loaded : refused);
      folder.write(cat(name, "/", files[i]), contents[i]);
    }
  }
  set_log_level(LogLevel::kInfo);
  EXPECT_GT(refused, loaded) << "the mutations miss what matters";
  EXPECT_GT(loaded, 0) << "the mutations never get as far as running";
  RecordProperty("loaded", loaded);
  RecordProperty("refused", refused);
}

}  // namespace
}  // namespace hearth
