// Reads matrices and hands them to the backend, one layer's part at a time so that little host memory is held.
#include "models/weight_loader.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "base/log.h"

namespace hearth {
namespace {

constexpr int64_t kMiB = 1 << 20;

// In float32; a dummy's stay what they are.
HostTensor multiplied(const HostTensor& host, float scale) {
  if (scale == 1.0f || !host.view) return host;
  const auto owner = std::make_shared_for_overwrite<float[]>(static_cast<size_t>(host.view.shape.elements()));
  to_float32(host.view, owner.get());
  for (int64_t i = 0; i < host.view.shape.elements(); ++i) owner[i] *= scale;
  return {{owner.get(), DType::kF32, host.view.shape}, owner};
}

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
  if (reader_.static_input_scales() > 0 && shard_.rank == 0) {
    log_info(reader_.checkpoint().path(), ": ", reader_.static_input_scales(),
             " static activation scales: used before output projections scaled by tensor or channel, and before down "
             "projections where all of a layer's are and have one; elsewhere dynamic ones are finer and as fast");
  }
  progress_ = std::move(progress);
  matrices_.clear();
  reader_.start_reading();
  return {};
}

void WeightLoader::report_mxfp4() const {
  const int64_t rows = reader_.mxfp4_rows(), rounded = reader_.rounded_mxfp4_rows();
  if (rows == 0 || shard_.rank != 0) return;
  log_info(reader_.checkpoint().path(), ": ", rows, " rows in MXFP4 became e4m3, ", rows - rounded, " of them exactly",
           rounded == 0 ? "" : "; in the others small values were rounded, by at most 2^-18 of the row's largest");
}

Result<Tensor> WeightLoader::vector(const std::string& name, int64_t size, float scale) {
  HEARTH_ASSIGN(const HostTensor host, reader_.floats(name, {size}));
  if (checking()) return Tensor{};
  return backend_.load(name, multiplied(host, scale).view, DType::kF32);
}

Result<Tensor> WeightLoader::row(const std::string& name, int64_t size) {
  const auto at = reader_.checkpoint().entries().find(name);
  const bool is_vector = at != reader_.checkpoint().entries().end() && at->second.shape.rank() == 1;
  HEARTH_ASSIGN(HostTensor host, reader_.floats(name, is_vector ? Shape{size} : Shape{1, size}));
  if (checking()) return Tensor{};
  host.view.shape = {size};
  return backend_.load(name, host.view, DType::kF32);
}

Result<Tensor> WeightLoader::of_heads(const std::string& name, int64_t heads) {
  HEARTH_ASSIGN(const HostTensor host, reader_.floats(name, {heads}));
  if (checking()) return Tensor{};
  const Range mine = shard_.part(heads);
  // A dummy's, like its biases, are zeros: any that were left to the backend would be ones.
  std::vector<float> values(static_cast<size_t>(mine.size()));
  if (host.view) to_float32(host.view.rows(mine.begin, mine.size()), values.data());
  return backend_.load(name, {values.data(), DType::kF32, {mine.size()}}, DType::kF32);
}

Result<Tensor> WeightLoader::table(const std::string& name, int64_t rows, int64_t columns, float scale) {
  HEARTH_ASSIGN(HostTensor host, reader_.floats(name, {rows, columns}));
  if (checking()) return Tensor{};
  host = multiplied(host, scale);
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

Status WeightLoader::add_bias(const std::string& name, int64_t out, const Range& rows, std::vector<float>& biases) {
  HEARTH_ASSIGN(const HostTensor all, reader_.floats(name + ".bias", {out}));
  if (checking()) return {};
  const size_t before = biases.size();
  biases.resize(before + static_cast<size_t>(rows.size()));
  to_float32(all.view.rows(rows.begin, rows.size()), biases.data() + before);
  return {};
}

Status WeightLoader::read_bias(const std::string& name, int64_t out, const Range& rows, bool zeros,
                               OwnedMatrix& matrix) {
  std::vector<float> bias;
  HEARTH_TRY(add_bias(name, out, rows, bias));
  if (checking()) return {};
  if (zeros) std::ranges::fill(bias, 0.0f);
  const auto owner = std::make_shared<const std::vector<float>>(std::move(bias));
  matrix.matrix.bias = {const_cast<float*>(owner->data()), DType::kF32, {std::ssize(*owner)}};
  matrix.bias_owner = owner;
  return {};
}

Result<LinearWeight> WeightLoader::load_linear(std::vector<std::string> names, std::span<const HostMatrix> matrices,
                                               std::vector<float> biases) {
  LinearWeight out;
  if (!checking()) {
    report();
    Tensor all_biases;
    if (!biases.empty()) all_biases = {biases.data(), DType::kF32, {std::ssize(biases)}};
    HEARTH_ASSIGN(out, backend_.load_linear(names[0], matrices, all_biases, format_));
  }
  matrices_.push_back({out.data.data, std::move(names)});
  return out;
}

Result<LinearWeight> WeightLoader::heads(const std::vector<Matrix>& parts, int64_t in, bool bias) {
  std::vector<std::string> names;
  std::vector<OwnedMatrix> owned;
  std::vector<HostMatrix> matrices;
  std::vector<float> biases;
  for (const Matrix& part : parts) {
    const Range rows = shard_.part(part.heads).of(part.out / part.heads);
    HEARTH_ASSIGN(OwnedMatrix matrix, reader_.matrix(part.name, part.out, in, {rows, {0, in}}));
    names.push_back(part.name);
    matrices.push_back(matrix.matrix);
    owned.push_back(std::move(matrix));
    if (bias) HEARTH_TRY(add_bias(part.name, part.out, rows, biases));
  }
  return load_linear(std::move(names), matrices, std::move(biases));
}

Result<LinearWeight> WeightLoader::output(const std::string& name, int64_t out, int64_t in, int64_t heads, bool bias) {
  const Range columns = shard_.part(heads).of(in / heads);
  HEARTH_ASSIGN(OwnedMatrix matrix, reader_.matrix(name, out, in, {{0, out}, columns}));
  float input_factor = 1.0f;
  if (!checking() && matrix.fixes_input_scale()) input_factor = matrix.use_input_scale();
  std::vector<float> biases;
  if (bias) HEARTH_TRY(add_bias(name, out, {0, shard_.rank == 0 ? out : 0}, biases));
  HEARTH_ASSIGN(LinearWeight loaded, load_linear({name}, {&matrix.matrix, 1}, std::move(biases)));
  loaded.input_factor = input_factor;
  return loaded;
}

Result<LinearWeight> WeightLoader::head(const std::string& name, int64_t out, int64_t in) {
  HEARTH_ASSIGN(const OwnedMatrix host, reader_.unquantized(name, out, in, {shard_.part(out), {0, in}}));
  if (checking()) return LinearWeight{};
  report();
  return backend_.load_linear(name, {&host.matrix, 1}, {}, LinearFormat::kAsStored);
}

Result<WeightLoader::OwnedMlp> WeightLoader::read_mlp(const std::string& prefix, int64_t intermediate, int64_t hidden,
                                                      bool bias, const Shard& shard) {
  const Range mine = shard.part(intermediate), all{0, hidden};
  OwnedMlp out;
  HEARTH_ASSIGN(out.gate, reader_.matrix(prefix + "gate", intermediate, hidden, {mine, all}));
  HEARTH_ASSIGN(out.up, reader_.matrix(prefix + "up", intermediate, hidden, {mine, all}));
  HEARTH_ASSIGN(out.down, reader_.matrix(prefix + "down", hidden, intermediate, {all, mine}));
  if (!bias) return out;
  HEARTH_TRY(read_bias(prefix + "gate", intermediate, mine, false, out.gate));
  HEARTH_TRY(read_bias(prefix + "up", intermediate, mine, false, out.up));
  HEARTH_TRY(read_bias(prefix + "down", hidden, all, shard.rank > 0, out.down));
  return out;
}

Status WeightLoader::check_mlp(const std::string& prefix, int64_t intermediate, int64_t hidden, bool bias) {
  HEARTH_CHECK(checking());
  const auto check = [&](const char* which, int64_t out, int64_t in) -> Status {
    HEARTH_TRY(reader_.matrix(prefix + which, out, in, {}).status());
    return bias ? reader_.floats(cat(prefix, which, ".bias"), {out}).status() : Status();
  };
  HEARTH_TRY(check("gate", intermediate, hidden));
  HEARTH_TRY(check("up", intermediate, hidden));
  return check("down", hidden, intermediate);
}

Result<MlpWeights> WeightLoader::mlp(const std::string& prefix, int64_t intermediate, int64_t hidden) {
  HEARTH_ASSIGN(OwnedMlp mlp, read_mlp(prefix, intermediate, hidden, false, shard_));
  MlpWeights out;
  if (!checking()) {
    report();
    use_input_scales({&mlp.gate, 1}, {&mlp.up, 1}, {&mlp.down, 1});
    HEARTH_ASSIGN(out, backend_.load_mlp(prefix, mlp.gate.matrix, mlp.up.matrix, mlp.down.matrix, format_));
  }
  matrices_.push_back({out.gate_up.data.data, {prefix + "gate", prefix + "up"}});
  matrices_.push_back({out.down.data.data, {prefix + "down"}});
  return out;
}

Result<ExpertWeights> WeightLoader::experts(const std::string& prefix, int64_t experts, const Range& here,
                                            int64_t intermediate, int64_t hidden, bool bias) {
  const Shard columns = here.size() == experts ? shard_ : Shard();
  std::vector<OwnedMatrix> gates, ups, downs;
  std::vector<std::string> gate_up_names, down_names;
  for (int64_t e = 0; e < experts; ++e) {
    const std::string name = cat(prefix, e, ".");
    if (e < here.begin || e >= here.end) {
      if (checking()) HEARTH_TRY(check_mlp(name, intermediate, hidden, bias));
      continue;
    }
    HEARTH_ASSIGN(OwnedMlp expert, read_mlp(name, intermediate, hidden, bias, columns));
    gates.push_back(std::move(expert.gate));
    ups.push_back(std::move(expert.up));
    downs.push_back(std::move(expert.down));
    gate_up_names.insert(gate_up_names.end(), {name + "gate", name + "up"});
    down_names.push_back(name + "down");
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
  const Range heads = shard_.part(kv_heads);
  return backend_.load(cat(prefix, which, " scale"), scale.view.rows(heads.begin, heads.size()), DType::kF32);
}

}  // namespace hearth
