// WeightReader: a checkpoint's matrices with their FP8 scales in one of two forms, whichever of the FP8 flavours it is:
// AutoFP8, compressed-tensors, ModelOpt (a scale per tensor or channel) or DeepSeek (per 128x128 block); and those in
// MXFP4, which become e4m3 with a scale a channel. What a file
// says of itself (dtype, names and shapes of its scales) decides, never the list of ignored layers in its config. It
// remembers what was asked for, so that a tensor nobody wants is refused too.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "tensor/host_matrix.h"
#include "weights/checkpoint.h"

namespace hearth {

// A HostMatrix with the memory it points into.
struct OwnedMatrix {
  HostMatrix matrix;
  float input_scale = 0;  // that the checkpoint fixes for what an e4m3 matrix is multiplied by; 0: none
  std::shared_ptr<const void> data_owner, scales_owner, bias_owner;
  // Multiplies every scale; those of an OwnedMatrix are nobody else's.
  void scale(float factor);
  // Whether the scale that the checkpoint fixes for its input can become part of its own.
  bool fixes_input_scale() const;
  // It becomes so; returns what the input is to be multiplied by. Whoever stores that as e4m3 then need not know a
  // row's largest.
  float use_input_scale();
};

// Where each of `downs` fixes a scale for its input: up makes its result in units of it.
void use_input_scales(std::span<OwnedMatrix> gates, std::span<OwnedMatrix> ups, std::span<OwnedMatrix> downs);

class WeightReader {
 public:
  // `check_only`: everything is checked, scales' values too, and no weight is read; results are then empty.
  WeightReader(const Checkpoint& checkpoint, bool check_only) : checkpoint_(checkpoint), check_only_(check_only) {}

  bool check_only() const { return check_only_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

  // A tensor of floats that is no matrix of a linear layer: a norm's weight, a bias, the embedding.
  Result<HostTensor> floats(std::string_view name, const Shape& shape);
  // NAME.weight [out, in] and its scales. A scale per tensor becomes one per channel: each matrix keeps its own.
  Result<OwnedMatrix> matrix(std::string_view name, int64_t out, int64_t in) {
    return matrix(name, out, in, {{0, out}, {0, in}});
  }
  // A part of it, which must not cut a block of 128x128 with a scale.
  Result<OwnedMatrix> matrix(std::string_view name, int64_t out, int64_t in, const MatrixPart& part);
  // As matrix(), an e4m3 one multiplied out to float32.
  Result<OwnedMatrix> unquantized(std::string_view name, int64_t out, int64_t in) {
    return unquantized(name, out, in, {{0, out}, {0, in}});
  }
  Result<OwnedMatrix> unquantized(std::string_view name, int64_t out, int64_t in, const MatrixPart& part);
  // Static scales of layer PREFIX ("layers.0.") for `which` = 'k' or 'v': f32 [kv_heads], or empty.
  Result<HostTensor> kv_scale(std::string_view prefix, char which, int64_t kv_heads);
  // Rows read that were in MXFP4, and how many of them e4m3 does not hold exactly.
  int64_t mxfp4_rows() const { return mxfp4_rows_; }
  int64_t rounded_mxfp4_rows() const { return rounded_mxfp4_rows_; }
  // How many matrices fix a scale for their input.
  int64_t static_input_scales() const { return static_input_scales_; }
  // How many of kv_scale()'s results were not empty.
  int64_t static_kv_scales() const { return static_kv_scales_; }
  void ignore(std::string_view name) { used_.emplace(name); }
  // From checking to reading; bytes() starts over.
  void start_reading() {
    check_only_ = false;
    bytes_ = 0;
  }
  // Bytes of weights seen so far, for progress.
  int64_t bytes() const { return bytes_; }
  // Refuses a checkpoint with tensors that nobody asked for.
  Status finish() const;

 private:
  // Empty while checking.
  Result<HostTensor> weight(const std::string& weight, const MatrixPart& part);
  Result<OwnedMatrix> mxfp4(const std::string& weight, const MatrixPart& part);
  Result<HostTensor> scales(std::string_view name, int64_t out, int64_t in, const MatrixPart& part, WeightScales& kind);
  Result<HostTensor> all_scales(std::string_view name, int64_t out, int64_t in, WeightScales& kind);
  // Elements as positive, finite float32.
  Result<HostTensor> positive_floats(std::string_view name);
  // 0 where there is none.
  Result<float> input_scale(std::string_view name);

  const Checkpoint& checkpoint_;
  bool check_only_;
  std::set<std::string, std::less<>> used_;
  int64_t bytes_ = 0;
  int64_t static_input_scales_ = 0, static_kv_scales_ = 0;
  int64_t mxfp4_rows_ = 0, rounded_mxfp4_rows_ = 0;
};

// Converts floats of any type to float32.
void to_float32(const Tensor& from, float* out);

}  // namespace hearth
