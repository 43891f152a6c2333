// Memory of the CPU backend, and the loading of weights into the layout of panels.h.
#include "cpu/cpu_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "cpu/cpu_ops.h"
#include "cpu/float_types.h"
#include "cpu/panels.h"
#include "cpu/quantize.h"
#include "cpu/simd.h"

namespace hearth {
namespace {

void widen(const Tensor& in, float* out) {
  visit_float(in.dtype, [&]<typename T>(T) { simd::convert(in.as<T>(), out, in.shape.elements()); });
}

// What a tensor without data becomes (see Backend): ones for a vector, else normals of deviation 0.02, the same each
// time.
std::vector<float> random_weights(const Shape& shape) {
  std::vector<float> out(static_cast<size_t>(shape.elements()), 1.0f);
  std::mt19937_64 random(static_cast<uint64_t>(shape.elements()));
  std::normal_distribution<float> normal(0.0f, kRandomWeightDeviation);
  if (shape.rank() > 1) std::ranges::generate(out, [&] { return normal(random); });
  return out;
}

// A part of a matrix on its way into panels: the checkpoint's, or a quantized or dequantized copy of it.
struct Part {
  HostMatrix matrix;
  std::vector<float> floats;
  QuantizedMatrix quantized;
};

void quantize_part(Part& part) {
  part.quantized = quantize_matrix(part.matrix.data, WeightScales::kChannel);
  const Shape shape = part.matrix.data.shape;
  part.matrix = {{part.quantized.data.data(), DType::kE4M3, shape},
                 WeightScales::kChannel,
                 {part.quantized.scales.data(), DType::kF32, {shape[0]}}};
}

// The scale of elements 128 * group .. of a row.
float scale_at(const HostMatrix& m, int64_t row, int64_t group) {
  switch (m.kind) {
    case WeightScales::kNone: return 1.0f;
    case WeightScales::kChannel: return m.scales.as<float>()[row];
    case WeightScales::kBlock: return m.scales.as<float>()[row / kScaleGroup * m.scales.dim(1) + group];
  }
  return 1.0f;
}

void dequantize_part(Part& part) {
  const HostMatrix m = part.matrix;
  const int64_t in = m.data.dim(1);
  part.floats.resize(static_cast<size_t>(m.data.shape.elements()));
  widen(m.data, part.floats.data());
  for (int64_t row = 0; row < m.data.dim(0); ++row) {
    for (int64_t k = 0; k < in; ++k)
      part.floats[static_cast<size_t>(row * in + k)] *= scale_at(m, row, k / kScaleGroup);
  }
  part.matrix = {{part.floats.data(), DType::kF32, m.data.shape}, WeightScales::kNone, {}};
}

// Brings parts to one type: quantized where asked; where types still differ, all in f32, which holds each exactly but
// for the rounding of an e4m3 value times its scale.
std::vector<Part> prepare(std::span<const HostMatrix> matrices, LinearFormat format) {
  std::vector<Part> parts;
  for (const HostMatrix& m : matrices) {
    Part& part = parts.emplace_back();
    part.matrix = m;
    if (!m.data) {
      part.floats = random_weights(m.data.shape);
      part.matrix.data = {part.floats.data(), DType::kF32, m.data.shape};
      if (m.data.dtype == DType::kE4M3) {
        part.quantized.data.resize(part.floats.size());
        quantize(part.floats.data(), m.data.shape.elements(), kRandomE4M3Deviation / kRandomWeightDeviation,
                 part.quantized.data.data());
        part.matrix.data = {part.quantized.data.data(), DType::kE4M3, m.data.shape};
      }
    }
    if (quantizes_weights(format) && part.matrix.data.dtype != DType::kE4M3) quantize_part(part);
  }
  const auto type = [](const Part& p) { return p.matrix.data.dtype; };
  if (!std::ranges::all_of(parts, [&](const Part& p) { return type(p) == type(parts[0]); })) {
    for (Part& part : parts) dequantize_part(part);
  }
  return parts;
}

// A row of some matrix, in the order in which rows stand in panels; without a matrix: zeros.
struct SourceRow {
  const HostMatrix* matrix = nullptr;
  int64_t row = 0;
};

void append_rows(std::vector<SourceRow>& rows, const HostMatrix& m, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) rows.push_back(row < m.data.dim(0) ? SourceRow{&m, row} : SourceRow{});
}

// As gate_up_matrix (products.h) has it.
std::vector<SourceRow> interleaved_rows(const HostMatrix& gate, const HostMatrix& up) {
  std::vector<SourceRow> rows;
  for (int64_t row = 0; row < gate.data.dim(0); row += kPanelRows) {
    append_rows(rows, gate, row, row + kPanelRows);
    append_rows(rows, up, row, row + kPanelRows);
  }
  return rows;
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(DType act, int threads, std::shared_ptr<Communicator> comm)
      : act_(act), comm_(std::move(comm)), ops_(threads, comm_.get()) {
    HEARTH_CHECK(act == DType::kF32 || act == DType::kF16 || act == DType::kBF16);
  }

  std::string name() const override { return cat("cpu (", ops_.threads(), " threads)"); }
  Ops& ops() override { return ops_; }
  DType act() const override { return act_; }
  Shard shard() const override { return comm_ ? comm_->shard() : Shard(); }

  Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) override {
    std::optional<int64_t> bytes = dtype_size(dtype);
    for (int i = 0; i < shape.rank(); ++i) bytes = bytes ? checked_mul(*bytes, shape[i]) : bytes;
    HEARTH_CHECK(bytes && *bytes >= 0);
    constexpr int64_t kHugePage = int64_t{1} << 21;
    const int64_t alignment = *bytes >= kHugePage ? kHugePage : 64;
    const int64_t rounded = std::max(alignment, ceil_div(*bytes, alignment) * alignment);
    void* memory = rounded <= free_bytes() ? std::aligned_alloc(alignment, rounded) : nullptr;
    if (memory == nullptr) {
      return Status(Code::kResourceExhausted,
                    cat("no memory for ", what, ": needs ", rounded, " bytes, ", free_bytes(), " are free"));
    }
    if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
    owned_.emplace_back(memory, std::free);
    return Tensor{memory, dtype, shape};
  }

  // The ranks of a host share its memory.
  int64_t free_bytes() const override {
    std::ifstream meminfo("/proc/meminfo");
    for (std::string word; meminfo >> word;) {
      int64_t kilobytes;
      if (word == "MemAvailable:" && meminfo >> kilobytes) return kilobytes * 1024 / shard().size;
    }
    return 0;
  }

  void upload(const Tensor& host, const Tensor& device) override {
    HEARTH_CHECK(host.bytes() == device.bytes());
    std::memcpy(device.data, host.data, static_cast<size_t>(host.bytes()));
  }
  void download(const Tensor& device, const Tensor& host) override { upload(device, host); }
  void zero(const Tensor& device) override { std::memset(device.data, 0, static_cast<size_t>(device.bytes())); }
  void synchronize() override {}
  Result<std::optional<RunTime>> wait(int64_t) override {
    if (comm_) HEARTH_TRY(comm_->status());
    return std::optional<RunTime>();
  }

  Result<Tensor> load(std::string_view what, const Tensor& host, DType dtype) override {
    if (!host) {
      std::vector<float> values = random_weights(host.shape);
      return load(what, {values.data(), DType::kF32, host.shape}, dtype);
    }
    HEARTH_ASSIGN(Tensor out, allocate(what, dtype, host.shape));
    if (host.dtype == dtype) {
      upload(host, out);
    } else {
      visit_float(host.dtype, [&]<typename From>(From) {
        visit_act(dtype, [&]<typename To>(To) { simd::convert(host.as<From>(), out.as<To>(), host.shape.elements()); });
      });
    }
    return out;
  }

  Result<LinearWeight> load_linear(std::string_view what, std::span<const HostMatrix> matrices, const Tensor& bias,
                                   LinearFormat format) override {
    const std::vector<Part> parts = prepare(matrices, format);
    std::vector<SourceRow> rows;
    for (const Part& part : parts) append_rows(rows, part.matrix, 0, part.matrix.data.dim(0));
    HEARTH_ASSIGN(LinearWeight out, load_rows(what, rows, static_cast<int64_t>(rows.size()), format));
    if (matrices[0].scales_input) drop_scales(out.input);
    if (bias) {
      HEARTH_ASSIGN(out.bias, load(what, bias, act_));
    }
    return out;
  }

  Result<MlpWeights> load_mlp(std::string_view what, const HostMatrix& gate, const HostMatrix& up,
                              const HostMatrix& down, LinearFormat format) override {
    const HostMatrix both[] = {gate, up};
    const std::vector<Part> parts = prepare(both, format);
    MlpWeights out;
    HEARTH_ASSIGN(out.gate_up,
                  load_rows(what, interleaved_rows(parts[0].matrix, parts[1].matrix), 2 * gate.data.dim(0), format));
    HEARTH_ASSIGN(out.down, load_linear(what, {&down, 1}, {}, format));
    return out;
  }

  Result<ExpertWeights> load_experts(std::string_view what, std::span<const HostMatrix> gate,
                                     std::span<const HostMatrix> up, std::span<const HostMatrix> down,
                                     LinearFormat format) override {
    HEARTH_CHECK(!gate.empty() && gate.size() == up.size() && gate.size() == down.size());
    std::vector<HostMatrix> pairs;
    for (size_t e = 0; e < gate.size(); ++e) pairs.insert(pairs.end(), {gate[e], up[e]});
    ExpertWeights out;
    std::vector<std::vector<SourceRow>> rows(gate.size());
    {
      const std::vector<Part> parts = prepare(pairs, format);
      for (size_t e = 0; e < rows.size(); ++e) {
        rows[e] = interleaved_rows(parts[2 * e].matrix, parts[2 * e + 1].matrix);
      }
      HEARTH_TRY(pack(what, rows, 2 * gate[0].data.dim(0), out.gate_up, out.gate_up_scales));
    }
    const std::vector<Part> parts = prepare(down, format);
    for (size_t e = 0; e < rows.size(); ++e) {
      rows[e].clear();
      append_rows(rows[e], parts[e].matrix, 0, down[e].data.dim(0));
    }
    HEARTH_TRY(pack(what, rows, down[0].data.dim(0), out.down, out.down_scales));
    if (gate[0].bias) {
      HEARTH_ASSIGN(out.gate_up_bias, load_biases(what, pairs, 2));
      HEARTH_ASSIGN(out.down_bias, load_biases(what, down, 1));
    }
    // One type for both products: where only one of them is e4m3, it meets unquantized activations.
    out.input = InputType{act_};
    if (out.gate_up.dtype == out.down.dtype) {
      const auto groups = [](const Tensor& scales) { return scales ? scales.dim(1) : 1; };
      out.input = input_type(out.down.dtype, std::max(groups(out.gate_up_scales), groups(out.down_scales)), format);
    }
    out.down_input = out.input;
    if (down[0].scales_input) drop_scales(out.down_input);
    return out;
  }

  int64_t expert_rows(int64_t num_tokens, int64_t top_k, int64_t) const override { return num_tokens * top_k; }

  Status reserve_mlp(const MlpWeights& w, int64_t max_rows) override {
    return ops_.scratch().reserve_product(*this, CpuOps::kMlpProduct, w.down.input, max_rows, w.down.in());
  }
  Status reserve_experts(const ExpertWeights& w, int64_t max_rows, int64_t top_k) override {
    const int64_t rows = max_rows * top_k;
    HEARTH_TRY(ops_.scratch().reserve(*this, CpuOps::kExpertInput, w.input, rows, w.gate_up.dim(2)));
    return ops_.scratch().reserve_product(*this, CpuOps::kExpertProduct, w.down_input, rows, w.down.dim(2));
  }

 private:
  Result<LinearWeight> load_rows(std::string_view what, const std::vector<SourceRow>& rows, int64_t out_dim,
                                 LinearFormat format) {
    LinearWeight out;
    HEARTH_TRY(pack(what, {&rows, 1}, out_dim, out.data, out.scales));
    out.data.shape = {out_dim, out.data.dim(2)};
    if (out.scales) out.scales.shape = {out.scales.dim(1), out.scales.dim(2)};
    out.input = input_type(out.data.dtype, out.scales ? out.scales.dim(0) : 1, format);
    return out;
  }

  // Biases of matrices, `in_turn` of each expert, as [experts, rows in panels].
  Result<Tensor> load_biases(std::string_view what, std::span<const HostMatrix> matrices, int64_t in_turn) {
    const int64_t out_dim = matrices[0].bias.dim(0), turn = in_turn * kPanelRows;
    const int64_t width = ceil_div(out_dim, kPanelRows) * turn;
    std::vector<float> values(matrices.size() / static_cast<size_t>(in_turn) * static_cast<size_t>(width));
    for (int64_t m = 0; m < std::ssize(matrices); ++m) {
      const float* bias = matrices[static_cast<size_t>(m)].bias.as<float>();
      float* to = values.data() + m / in_turn * width + m % in_turn * kPanelRows;
      for (int64_t row = 0; row < out_dim; ++row) to[row / kPanelRows * turn + row % kPanelRows] = bias[row];
    }
    return load(what, {values.data(), DType::kF32, {std::ssize(values) / width, width}}, act_);
  }

  // Matrices of one shape and type as data [n, out, in] in panels and scales [n, 1 or ceil(in / 128), panels * 64].
  Status pack(std::string_view what, std::span<const std::vector<SourceRow>> matrices, int64_t out_dim, Tensor& data,
              Tensor& scales) {
    const Tensor& first = matrices[0][0].matrix->data;
    const int64_t count = static_cast<int64_t>(matrices.size()), in = first.dim(1);
    const int64_t panels = ceil_div(static_cast<int64_t>(matrices[0].size()), kPanelRows);
    HEARTH_ASSIGN(data, allocate(what, first.dtype, {count, panels * kPanelRows, in}));
    int64_t groups = 0;
    if (first.dtype == DType::kE4M3) {
      groups = 1;
      for (const auto& rows : matrices) {
        for (const SourceRow& r : rows) {
          if (r.matrix && r.matrix->kind == WeightScales::kBlock) groups = ceil_div(in, kScaleGroup);
        }
      }
      HEARTH_ASSIGN(scales, allocate(what, DType::kF32, {count, groups, panels * kPanelRows}));
    }
    ops_.pool().run(count * panels, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const std::vector<SourceRow>& rows = matrices[static_cast<size_t>(i / panels)];
        const int64_t first_row = i % panels * kPanelRows;
        const void* sources[kPanelRows] = {};
        for (int64_t r = 0; r < kPanelRows && first_row + r < static_cast<int64_t>(rows.size()); ++r) {
          const auto& [matrix, row] = rows[static_cast<size_t>(first_row + r)];
          if (matrix == nullptr) continue;
          HEARTH_CHECK(matrix->data.dtype == first.dtype && matrix->data.dim(1) == in);
          sources[r] = matrix->data.rows(row, 1).data;
          for (int64_t g = 0; g < groups; ++g) {
            scales.as<float>()[(i / panels * groups + g) * panels * kPanelRows + first_row + r] =
                scale_at(*matrix, row, g);
          }
        }
        pack_panel(sources, first.dtype, in, static_cast<char*>(data.data) + i * panel_bytes(first.dtype, in));
      }
    });
    data.shape.set(1, out_dim);
    return {};
  }

  // Where the weights' scales hold the input's, and it is quantized at all.
  static void drop_scales(InputType& input) {
    if (input.dtype == DType::kE4M3) input.scales = ActivationScales::kNone;
  }

  // `groups`: of K, each with scales of its own.
  InputType input_type(DType weights, int64_t groups, LinearFormat format) const {
    if (weights != DType::kE4M3 || keeps_activations(format)) return {act_};
    return {DType::kE4M3, groups == 1 ? ActivationScales::kPerToken : ActivationScales::kPerGroup};
  }

  const DType act_;
  const std::shared_ptr<Communicator> comm_;  // null: this is the only rank
  CpuOps ops_;
  std::vector<std::unique_ptr<void, void (*)(void*)>> owned_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(DType act, int threads, std::shared_ptr<Communicator> comm) {
  return std::make_unique<CpuBackend>(act, threads, std::move(comm));
}

}  // namespace hearth
