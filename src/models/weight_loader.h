// WeightLoader: a checkpoint's tensors onto a backend. A model's load function is written once and run twice: first to
// check every tensor it will ask for (results are empty), then, nothing having been refused, to load them. Sizes are
// those of the whole model; of what ranks share the backend's part is read (Backend::shard).
#pragma once

#include <functional>
#include <span>
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
    int64_t heads;  // its rows are of these, which the ranks share
  };

  WeightLoader(const Checkpoint& checkpoint, Backend& backend, LinearFormat format)
      : backend_(backend), shard_(backend.shard()), format_(format), reader_(checkpoint, /*check_only=*/true) {}
  // After the first run: refuses what it did not ask for.
  Status check_rest() const { return reader_.finish(); }
  // To be called between the two runs: likewise, and more than there is memory for.
  Status finish_check(LoadProgress progress);

  Backend& backend() { return backend_; }
  bool checking() const { return reader_.check_only(); }
  bool found_kv_scales() const { return reader_.static_kv_scales() > 0; }
  // After the second run: what became of matrices in MXFP4, as a line of the log.
  void report_mxfp4() const;
  void ignore(std::string_view name) { reader_.ignore(name); }
  // What heads, output, mlp and experts were asked for: all that a LinearFormat may quantize.
  const std::vector<LoadedMatrices>& matrices() const { return matrices_; }

  // f32 [size]: a norm's weight.
  Result<Tensor> vector(const std::string& name, int64_t size, float scale = 1.0f);
  // f32 [size], of a file that may have it as a matrix of one row.
  Result<Tensor> row(const std::string& name, int64_t size);
  // [rows, columns] as stored: the embedding.
  Result<Tensor> table(const std::string& name, int64_t rows, int64_t columns, float scale = 1.0f);
  // Of this rank's heads alone, f32: a number of each.
  Result<Tensor> of_heads(const std::string& name, int64_t heads);
  // [rows, columns] in act where the file has it so, else in f32: the router.
  Result<Tensor> router(const std::string& name, int64_t rows, int64_t columns);
  // What goes into attention: matrices of one input, this rank's heads of each, stacked by rows, with their biases
  // where `bias`.
  Result<LinearWeight> heads(const std::vector<Matrix>& parts, int64_t in, bool bias);
  // What comes out of it: of the columns those of this rank's heads; the bias is the first rank's. The scale that the
  // checkpoint may fix for the input is used, which whoever makes that multiplies by LinearWeight::input_factor.
  Result<LinearWeight> output(const std::string& name, int64_t out, int64_t in, int64_t heads, bool bias);
  // Rows of the vocabulary. In the stored precision whatever the format; an e4m3 one is multiplied out.
  Result<LinearWeight> head(const std::string& name, int64_t out, int64_t in);
  // Some of the intermediate columns. With `bias` each of an expert's matrices has one; down's is the first rank's.
  Result<MlpWeights> mlp(const std::string& prefix, int64_t intermediate, int64_t hidden);
  // Those of the experts that are `here`: where that is all, some columns of each; where it is some, these whole.
  Result<ExpertWeights> experts(const std::string& prefix, int64_t experts, const Range& here, int64_t intermediate,
                                int64_t hidden, bool bias = false);
  // The checkpoint's static scales of this rank's heads, f32, or empty.
  Result<Tensor> kv_scale(const std::string& prefix, char which, int64_t kv_heads);

 private:
  void report() const {
    if (progress_) progress_(reader_.bytes(), total_bytes_);
  }

  Result<LinearWeight> load_linear(std::vector<std::string> names, std::span<const HostMatrix> matrices,
                                   std::vector<float> biases);
  // Biases of rows of a matrix behind those that are there.
  Status add_bias(const std::string& name, int64_t out, const Range& rows, std::vector<float>& biases);
  // A matrix's own, of these rows; zeros where another rank adds it.
  Status read_bias(const std::string& name, int64_t out, const Range& rows, bool zeros, OwnedMatrix& matrix);
  struct OwnedMlp {
    OwnedMatrix gate, up, down;
  };
  // What `shard` has of its columns.
  Result<OwnedMlp> read_mlp(const std::string& prefix, int64_t intermediate, int64_t hidden, bool bias,
                            const Shard& shard);
  // While checking: one that another rank reads.
  Status check_mlp(const std::string& prefix, int64_t intermediate, int64_t hidden, bool bias);

  Backend& backend_;
  const Shard shard_;
  const LinearFormat format_;
  WeightReader reader_;
  std::vector<LoadedMatrices> matrices_;
  int64_t total_bytes_ = 0;
  LoadProgress progress_;
};

}  // namespace hearth
