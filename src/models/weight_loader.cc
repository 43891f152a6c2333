// Reads matrices and hands them to the backend, one layer's part at a time so that little host memory is held.
#include "models/weight_loader.h"

#include <utility>

#include "base/checked.h"

namespace hearth {
namespace {

constexpr int64_t kMiB = 1 << 20;

}  // namespace

Status WeightLoader::finish_check(LoadProgress progress) {
  HEARTH_TRY(check_rest());
  total_bytes_ = reader_.bytes();
  // Quantizing makes a byte of two or four. A matrix that then does not fit after all is refused by the backend.
  const int64_t least = format_ == LinearFormat::kQuantize ? total_bytes_ / 4 : total_bytes_;
  if (const int64_t free = backend_.free_bytes(); least > free) {
    return Status(Code::kResourceExhausted, cat(reader_.checkpoint().path(), ": the weights need ",
                                                ceil_div(least, kMiB), " MiB, ", free / kMiB, " MiB are free"));
  }
  progress_ = std::move(progress);
  matrices_.clear();
  reader_.start_reading();
  return {};
}

Result<Tensor> WeightLoader::vector(const std::string& name, int64_t size) {
  HEARTH_ASSIGN(const HostTensor host, reader_.floats(name, {size}));
  if (checking()) return Tensor{};
  return backend_.load(name, host.view, DType::kF32);
}

Result<Tensor> WeightLoader::table(const std::string& name, int64_t rows, int64_t columns) {
  HEARTH_ASSIGN(const HostTensor host, reader_.floats(name, {rows, columns}));
  if (checking()) return Tensor{};
  report();
  // A lookup copies: in 16 bit the table has the activations' type, in 32 bit the file's, which is smaller.
  const DType act = backend_.act();
  return backend_.load(name, host.view, dtype_size(act) == 2 ? act : host.view.dtype);
}

Result<Tensor> WeightLoader::router(const std::string& name, int64_t rows, int64_t columns) {
  HEARTH_ASSIGN(const OwnedMatrix host, reader_.unquantized(name, rows, columns));
  if (checking()) return Tensor{};
  const bool stored_as_act = host.matrix.data.dtype == backend_.act();
  return backend_.load(name, host.matrix.data, stored_as_act ? backend_.act() : DType::kF32);
}

Result<LinearWeight> WeightLoader::linear(const std::vector<Matrix>& parts, int64_t in, bool bias, bool scales_input) {
  HEARTH_CHECK(!scales_input || parts.size() == 1);
  std::vector<OwnedMatrix> owned;
  std::vector<HostMatrix> matrices;
  std::vector<float> biases;
  float input_factor = 1.0f;
  for (const Matrix& part : parts) {
    HEARTH_ASSIGN(OwnedMatrix matrix, reader_.matrix(part.name, part.out, in));
    if (!checking() && scales_input && matrix.fixes_input_scale()) input_factor = matrix.use_input_scale();
    matrices.push_back(matrix.matrix);
    owned.push_back(std::move(matrix));
    if (!bias) continue;
    HEARTH_ASSIGN(const HostTensor values, reader_.floats(part.name + ".bias", {part.out}));
    if (checking()) continue;
    biases.resize(biases.size() + static_cast<size_t>(part.out));
    to_float32(values.view, biases.data() + biases.size() - static_cast<size_t>(part.out));
  }
  std::vector<std::string> names;
  for (const Matrix& part : parts) names.push_back(part.name);
  matrices_.push_back({nullptr, std::move(names)});
  if (checking()) return LinearWeight{};
  report();
  Tensor all_biases;
  if (bias) all_biases = {biases.data(), DType::kF32, {static_cast<int64_t>(biases.size())}};
  HEARTH_ASSIGN(LinearWeight out, backend_.load_linear(parts[0].name, matrices, all_biases, format_));
  out.input_factor = input_factor;
  matrices_.back().data = out.data.data;
  return out;
}

Result<LinearWeight> WeightLoader::head(const std::string& name, int64_t out, int64_t in) {
  HEARTH_ASSIGN(const OwnedMatrix host, reader_.unquantized(name, out, in));
  if (checking()) return LinearWeight{};
  report();
  return backend_.load_linear(name, {&host.matrix, 1}, {}, LinearFormat::kAsStored);
}

Result<MlpWeights> WeightLoader::mlp(const std::string& prefix, int64_t intermediate, int64_t hidden) {
  HEARTH_ASSIGN(OwnedMatrix gate, reader_.matrix(prefix + "gate", intermediate, hidden));
  HEARTH_ASSIGN(OwnedMatrix up, reader_.matrix(prefix + "up", intermediate, hidden));
  HEARTH_ASSIGN(OwnedMatrix down, reader_.matrix(prefix + "down", hidden, intermediate));
  MlpWeights out;
  if (!checking()) {
    report();
    use_input_scales({&gate, 1}, {&up, 1}, {&down, 1});
    HEARTH_ASSIGN(out, backend_.load_mlp(prefix, gate.matrix, up.matrix, down.matrix, format_));
  }
  matrices_.push_back({out.gate_up.data.data, {prefix + "gate", prefix + "up"}});
  matrices_.push_back({out.down.data.data, {prefix + "down"}});
  return out;
}

Result<ExpertWeights> WeightLoader::experts(const std::string& prefix, int64_t experts, int64_t intermediate,
                                            int64_t hidden) {
  std::vector<OwnedMatrix> gates, ups, downs;
  std::vector<std::string> gate_up_names, down_names;
  for (int64_t e = 0; e < experts; ++e) {
    const std::string expert = cat(prefix, e, ".");
    HEARTH_ASSIGN(gates.emplace_back(), reader_.matrix(expert + "gate", intermediate, hidden));
    HEARTH_ASSIGN(ups.emplace_back(), reader_.matrix(expert + "up", intermediate, hidden));
    HEARTH_ASSIGN(downs.emplace_back(), reader_.matrix(expert + "down", hidden, intermediate));
    gate_up_names.insert(gate_up_names.end(), {expert + "gate", expert + "up"});
    down_names.push_back(expert + "down");
  }
  const auto views = [](const std::vector<OwnedMatrix>& owned) {
    std::vector<HostMatrix> out;
    for (const OwnedMatrix& m : owned) out.push_back(m.matrix);
    return out;
  };
  ExpertWeights out;
  if (!checking()) {
    report();
    use_input_scales(gates, ups, downs);
    HEARTH_ASSIGN(out, backend_.load_experts(prefix, views(gates), views(ups), views(downs), format_));
  }
  matrices_.push_back({out.gate_up.data, std::move(gate_up_names)});
  matrices_.push_back({out.down.data, std::move(down_names)});
  return out;
}

Result<Tensor> WeightLoader::kv_scale(const std::string& prefix, char which, int64_t kv_heads) {
  HEARTH_ASSIGN(const HostTensor scale, reader_.kv_scale(prefix, which, kv_heads));
  if (checking() || !scale.view) return Tensor{};
  return backend_.load(cat(prefix, which, " scale"), scale.view, DType::kF32);
}

}  // namespace hearth
