#include "models/registry.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "cpu/cpu_backend.h"
#include "weights/safetensors.h"
#include "weights/test_files.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;

constexpr const char* kLlama = "tests/golden/models/llama_float32";
constexpr const char* kMixtral = "tests/golden/models/mixtral_transformers4";

struct Env {
  explicit Env(const fs::path& cache) { setenv("HF_HUB_CACHE", cache.c_str(), 1); }
  ~Env() { unsetenv("HF_HUB_CACHE"); }
};

TEST(Registry, FindsModelsInTheHuggingFaceCache) {
  TempFolder cache;
  const Env env(cache.path());
  const fs::path repository = cache / "models--org--name";
  fs::create_directories(repository / "snapshots/abc");
  EXPECT_EQ(*find_model("org/name"), repository / "snapshots/abc");
  fs::create_directories(repository / "snapshots/def");
  EXPECT_NE(find_model("org/name").status().message().find("expected one snapshot, found 2"), std::string::npos);
  cache.write("models--org--name/refs/main", "def\n");
  EXPECT_EQ(*find_model("org/name"), repository / "snapshots/def");
  cache.write("models--org--name/refs/main", "../../..");
  EXPECT_FALSE(find_model("org/name").ok());
  cache.write("models--org--name/refs/main", "123");
  EXPECT_FALSE(find_model("org/name").ok()) << "a commit without a snapshot";

  EXPECT_EQ(find_model("org/other").status().code(), Code::kNotFound);
  for (const char* bad : {"name", "/name", "org/", "../nowhere", "nowhere/..", "a/b/c", "a b/c", ""}) {
    EXPECT_EQ(find_model(bad).status().code(), Code::kNotFound) << bad;
  }
}

TEST(Registry, AFolderWithOneGgufFileIsThatFile) {
  TempFolder folder;
  const Env env(folder.path());
  const fs::path snapshot = folder / "models--org--gguf/snapshots/abc";
  folder.write("models--org--gguf/snapshots/abc/README.md", "");
  folder.write("models--org--gguf/snapshots/abc/config.json", "{}");
  EXPECT_EQ(*find_model("org/gguf"), snapshot);
  folder.write("models--org--gguf/snapshots/abc/m-00001-of-00002.gguf", "");
  folder.write("models--org--gguf/snapshots/abc/m-00002-of-00002.gguf", "");
  folder.write("models--org--gguf/snapshots/abc/mmproj-m.gguf", "");
  EXPECT_EQ(*find_model("org/gguf"), snapshot / "m-00001-of-00002.gguf");
  EXPECT_EQ(*find_model(snapshot.string()), snapshot / "m-00001-of-00002.gguf");
  folder.write("models--org--gguf/snapshots/abc/other.gguf", "");
  EXPECT_NE(find_model("org/gguf").status().message().find("expected one .gguf file, found 2"), std::string::npos);
  folder.write("models--org--gguf/snapshots/abc/model.safetensors", "");
  EXPECT_EQ(*find_model("org/gguf"), snapshot);

  folder.write("models--org--gguf/snapshots/abc/adapter_config.json", "{}");
  EXPECT_NE(open_model("org/gguf").status().message().find("adapter_config.json: adapters are not supported"),
            std::string::npos);

  fs::create_directories(folder / "links");
  fs::create_symlink(fs::absolute("tests/golden/models/gguf_llama/model.gguf"), folder / "links/m.gguf");
  const auto backend = make_cpu_backend(DType::kF32, 1);
  const auto loaded = load_model((folder / "links").string(), *backend, {});
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
}

TEST(Registry, LoadsFromTheCacheThroughItsLinks) {
  TempFolder cache;
  const Env env(cache.path());
  const fs::path snapshot = cache / "models--org--name/snapshots/abc", blobs = cache / "models--org--name/blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  for (const char* name : {"config.json", "model.safetensors"}) {
    fs::copy(fs::path(kLlama) / name, blobs / name);
    fs::create_symlink(fs::path("../../blobs") / name, snapshot / name);
  }
  const auto backend = make_cpu_backend(DType::kF32, 1);
  const auto loaded = load_model("org/name", *backend, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded->model->architecture(), "llama");
  EXPECT_EQ(loaded->model->max_model_len(), 128);
}

TEST(Registry, ChecksOptionsAgainstTheModel) {
  const auto backend = make_cpu_backend(DType::kF32, 1);
  const auto refusal = [&](const char* model, const ModelOptions& options) {
    return load_model(model, *backend, options).status().message();
  };
  EXPECT_EQ(refusal(kLlama, {.max_model_len = 129}), "max-model-len: expected at most the model's 128, found 129");
  EXPECT_EQ(refusal(kMixtral, {.experts_per_token = 5}), "experts-per-token: expected 1 to 4, found 5");
  EXPECT_EQ(refusal(kLlama, {.experts_per_token = 1}),
            "experts-per-token: expected none for a model without experts, found 1");
  const auto loaded = load_model(kMixtral, *backend, {.max_model_len = 100, .experts_per_token = 3});
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded->model->max_model_len(), 100);
  EXPECT_EQ(loaded->opened.config.layers[0].feed_forward.experts_per_token, 3);
  EXPECT_EQ(loaded->opened.config.layers[0].attention.window, 16);
  EXPECT_EQ(loaded->opened.config.eos, (std::vector<int32_t>{2, 5}));
}

// Refuses whatever is wrong with the weights before it allocates anything.
class NoMemory final : public Backend {
 public:
  std::string name() const override { return "none"; }
  Ops& ops() override { std::abort(); }
  DType act() const override { return DType::kF32; }
  Result<Tensor> allocate(std::string_view, DType, Shape) override { return used(); }
  int64_t free = 1 << 20;
  int64_t free_bytes() const override { return free; }
  void upload(const Tensor&, const Tensor&) override {}
  void download(const Tensor&, const Tensor&) override {}
  void zero(const Tensor&) override {}
  void synchronize() override {}
  Result<Tensor> load(std::string_view, const Tensor&, DType) override { return used(); }
  Result<LinearWeight> load_linear(std::string_view, std::span<const HostMatrix>, const Tensor&,
                                   LinearFormat) override {
    return used();
  }
  Result<MlpWeights> load_mlp(std::string_view, const HostMatrix&, const HostMatrix&, const HostMatrix&,
                              LinearFormat) override {
    return used();
  }
  Result<ExpertWeights> load_experts(std::string_view, std::span<const HostMatrix>, std::span<const HostMatrix>,
                                     std::span<const HostMatrix>, LinearFormat) override {
    return used();
  }
  int64_t expert_rows(int64_t, int64_t, int64_t) const override { return 0; }
  Status reserve_mlp(const MlpWeights&, int64_t) override { return used(); }
  Status reserve_experts(const ExpertWeights&, int64_t, int64_t) override { return used(); }

 private:
  static Status used() { return Status(Code::kResourceExhausted, "used"); }
};

TEST(Registry, ChecksEveryTensorBeforeAnyAllocation) {
  NoMemory none;
  EXPECT_EQ(load_model(kLlama, none, {}).status().message(), "used");
  none.free = 0;
  EXPECT_NE(load_model(kLlama, none, {}).status().message().find("the weights need 1 MiB, 0 MiB are free"),
            std::string::npos);
  none.free = 1 << 20;

  TempFolder folder;
  fs::copy(fs::path(kLlama) / "config.json", folder / "config.json");
  const auto original = SafetensorsFile::open(fs::path(kLlama) / "model.safetensors");
  ASSERT_TRUE(original.ok());
  // The last tensors that a load would reach: broken, they must still be found first.
  const auto refusal = [&](std::string_view leave_out, std::string_view reshape, std::string_view add) {
    std::vector<test::TestTensor> tensors;
    for (const auto& [name, t] : original->tensors()) {
      if (name == leave_out) continue;
      std::vector<int64_t> shape;
      for (int i = 0; i < t.shape.rank(); ++i) shape.push_back(t.dim(i));
      if (name == reshape) std::reverse(shape.begin(), shape.end());
      tensors.push_back({name, "F32", shape, std::string(static_cast<const char*>(t.data), t.bytes())});
    }
    if (!add.empty()) tensors.push_back(test::floats(std::string(add), {1}, {1}));
    folder.write("model.safetensors", test::safetensors(tensors));
    return load_model(folder.path().string(), none, {}).status().message();
  };
  EXPECT_EQ(refusal("", "", ""), "used");
  EXPECT_NE(refusal("lm_head.weight", "", "").find("lm_head.weight: expected [64, 32], found no such tensor"),
            std::string::npos);
  EXPECT_NE(refusal("", "lm_head.weight", "").find("lm_head.weight: expected [64, 32], found [32, 64]"),
            std::string::npos);
  EXPECT_NE(refusal("", "", "model.layers.2.input_layernorm.weight").find("expected no such tensor in this model"),
            std::string::npos);
  EXPECT_EQ(refusal("", "", "model.layers.0.self_attn.rotary_emb.inv_freq"), "used");
}

}  // namespace
}  // namespace hearth
