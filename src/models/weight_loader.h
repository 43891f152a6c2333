// WeightLoader: a checkpoint's tensors onto a backend. A model's load function is written once and run twice: first to
// check every tensor it will ask for (results are empty), then, nothing having been refused, to load them.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/backend.h"
#include "weights/weight_reader.h"

namespace hearth {

// Called while loading with the bytes of weights loaded and the bytes in all.
using LoadProgress = std::function<void(int64_t loaded, int64_t total)>;

// Matrices of linear layers that a backend keeps in one piece of memory: q, k and v; gate and up in turns.
struct LoadedMatrices {
  const void* data = nullptr;      // null while checking
  std::vector<std::string> names;  // without ".weight"
};

class WeightLoader {
 public:
  struct Matrix {
    std::string name;  // without ".weight"
    int64_t out;
  };

  WeightLoader(const Checkpoint& checkpoint, Backend& backend, LinearFormat format)
      : backend_(backend), format_(format), reader_(checkpoint, /*check_only=*/true) {}
  // After the first run: refuses what it did not ask for.
  Status check_rest() const { return reader_.finish(); }
  // To be called between the two runs: likewise, and more than there is memory for.
  Status finish_check(LoadProgress progress);

  Backend& backend() { return backend_; }
  bool checking() const { return reader_.check_only(); }
  bool found_kv_scales() const { return reader_.static_kv_scales() > 0; }
  void ignore(std::string_view name) { reader_.ignore(name); }
  // What linear, mlp and experts were asked for: all that a LinearFormat may quantize.
  const std::vector<LoadedMatrices>& matrices() const { return matrices_; }

  // f32 [size]: a norm's weight.
  Result<Tensor> vector(const std::string& name, int64_t size);
  // [rows, columns] as stored: the embedding.
  Result<Tensor> table(const std::string& name, int64_t rows, int64_t columns);
  // [rows, columns] in act where the file has it so, else in f32: the router.
  Result<Tensor> router(const std::string& name, int64_t rows, int64_t columns);
  // Matrices of one input stacked by rows, with their biases where `bias`. `scales_input`, for one matrix: the scale
  // that the checkpoint may fix for the input is used, which whoever makes that multiplies by
  // LinearWeight::input_factor.
  Result<LinearWeight> linear(const std::vector<Matrix>& parts, int64_t in, bool bias, bool scales_input = false);
  // In the stored precision whatever the format; an e4m3 one is multiplied out.
  Result<LinearWeight> head(const std::string& name, int64_t out, int64_t in);
  Result<MlpWeights> mlp(const std::string& prefix, int64_t intermediate, int64_t hidden);
  Result<ExpertWeights> experts(const std::string& prefix, int64_t experts, int64_t intermediate, int64_t hidden);
  // The checkpoint's static scales, f32 [kv_heads], or empty.
  Result<Tensor> kv_scale(const std::string& prefix, char which, int64_t kv_heads);

 private:
  void report() const {
    if (progress_) progress_(reader_.bytes(), total_bytes_);
  }

  Backend& backend_;
  const LinearFormat format_;
  WeightReader reader_;
  std::vector<LoadedMatrices> matrices_;
  int64_t total_bytes_ = 0;
  LoadProgress progress_;
};

}  // namespace hearth
