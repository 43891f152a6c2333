// Memory, transfers, steps and weights of the CUDA backend.
#include "cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "cuda/check.h"
#include "cuda/cuda_ops.h"
#include "cuda/exchange.h"
#include "cuda/fill_random.h"
#include "cuda/limits.h"
#include "cuda/load_rows.h"
#include "cuda/place.h"
#include "cuda/step_graph.h"
#include "cuda/uploader.h"
#include "cuda/weight_tiles.h"
#include "cuda/weight_units.h"

namespace hearth {
namespace {

using cuda::cuda_status;
using cuda::RowPlace;
using cuda::seconds_between;
using cuda::StepGraph;

// [1, ...] as [...].
Tensor only_one(Tensor t) {
  const Shape s = t.shape;
  if (t) t.shape = s.rank() == 2 ? Shape{s[1]} : Shape{s[1], s[2]};
  return t;
}

// A part of a stacked matrix.
struct Part {
  HostMatrix matrix;
  RowPlace place;
};

class CudaBackend final : public Backend {
 public:
  // `exchange`: with the other ranks; null: there are none.
  CudaBackend(DType act, std::shared_ptr<cuda::Place> place, std::unique_ptr<cuda::Exchange> exchange)
      : act_(act), place_(std::move(place)), exchange_(std::move(exchange)) {}

  Status init() {
    HEARTH_TRY(place_->enter());
    HEARTH_ASSIGN(stream_, place_->make_stream());
    HEARTH_TRY(uploader_.init(stream_));
    HEARTH_ASSIGN(const Tensor counter, allocate("a counter", DType::kI32, {1}));
    zero(counter);
    rounded_rows_ = static_cast<uint32_t*>(counter.data);
    return ops_.init(stream_, place_->multiprocessors(), exchange_.get());
  }

  ~CudaBackend() override {
    enter();
    if (exchange_) exchange_->fail();  // nobody waits for a rank that ends
    if (stream_) cudaStreamSynchronize(stream_);
    graphs_.clear();
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    for (void* p : device_memory_) cudaFree(p);
    for (void* p : pinned_memory_) cudaFreeHost(p);
    if (stream_) cudaStreamDestroy(stream_);
  }

  std::string name() const override { return cat("cuda (", place_->name(), ")"); }
  void enter() override { (void)place_->enter(); }  // what fails here fails at the next call too
  Shard shard() const override { return exchange_ ? exchange_->shard() : Shard{}; }
  Ops& ops() override { return ops_; }
  DType act() const override { return act_; }
  Status check(const ModelShape& model, const StepLimits& step) const override {
    return cuda::check_limits(act_, model, step);
  }

  Result<Tensor> allocate(std::string_view what, DType dtype, Shape shape) override {
    HEARTH_ASSIGN(const size_t bytes, byte_size(what, dtype, shape));
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) {
      cudaGetLastError();
      return Status(Code::kResourceExhausted,
                    cat("no GPU memory for ", what, ": needs ", bytes, " bytes, ", free_bytes(), " are free"));
    }
    device_memory_.push_back(memory);
    return Tensor{memory, dtype, shape};
  }

  int64_t free_bytes() const override {
    size_t free = 0, total = 0;
    HEARTH_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return static_cast<int64_t>(free);
  }

  void upload(const Tensor& host, const Tensor& device) override {
    HEARTH_CHECK(host.bytes() == device.bytes());
    uploader_.copy(host.data, device.data, host.bytes());
  }
  // A copy to memory that is not pinned holds up the other threads' calls until it is done: it begins when it can.
  void download(const Tensor& device, const Tensor& host) override {
    HEARTH_CUDA_CHECK(cudaStreamSynchronize(stream_));
    enqueue_download(device, host);
    HEARTH_CUDA_CHECK(cudaStreamSynchronize(stream_));
  }
  void zero(const Tensor& device) override {
    HEARTH_CUDA_CHECK(cudaMemsetAsync(device.data, 0, static_cast<size_t>(device.bytes()), stream_));
  }
  void synchronize() override {
    HEARTH_CUDA_CHECK(cudaStreamSynchronize(stream_));
    const cuda::Uploader::Moved moved = uploader_.take_moved();
    if (moved.bytes >= int64_t{1} << 30) {
      log_info("uploaded ", moved.bytes >> 20, " MiB to the GPU at ", moved.bytes / moved.seconds * 1e-9, " GB/s");
    }
    report_mxfp4();
  }

  Result<Tensor> allocate_host(std::string_view what, DType dtype, Shape shape) override {
    HEARTH_ASSIGN(const size_t bytes, byte_size(what, dtype, shape));
    void* memory = nullptr;
    if (cudaMallocHost(&memory, bytes) != cudaSuccess) {
      cudaGetLastError();
      return Status(Code::kResourceExhausted, cat("no pinned memory for ", what, ": needs ", bytes, " bytes"));
    }
    pinned_memory_.push_back(memory);
    return Tensor{memory, dtype, shape};
  }
  void enqueue_upload(const Tensor& host, const Tensor& device) override {
    enqueue_copy(host.data, device.data, host.bytes(), device.bytes(), cudaMemcpyHostToDevice);
  }
  void enqueue_download(const Tensor& device, const Tensor& host) override {
    enqueue_copy(device.data, host.data, device.bytes(), host.bytes(), cudaMemcpyDeviceToHost);
  }

  void run(int64_t key, const std::function<void()>& record) override {
    if (!failure_.ok()) return;
    recycle(last_run_.begin), recycle(last_run_.end);
    last_run_ = {take_event(), take_event()};
    std::unique_ptr<StepGraph>& graph = graphs_[key];
    if (!graph) {
      auto captured = StepGraph::capture(stream_, record, last_run_);
      if (!keep_failure(captured.status())) return;
      graph = std::move(captured).value();
    }
    keep_failure(graph->launch(stream_, last_run_));
  }

  std::vector<OpTime> profile(const std::function<void()>& record, const std::function<void()>& ready) override {
    // On shares of one GPU, waits of ranks for each other ran out where events are nodes of their graphs.
    if (exchange_ && exchange_->one_gpu()) {
      ready();
      return {};
    }
    constexpr int kRuns = 9;
    const StepGraph::Events events{take_event(), take_event()};
    cuda::OpTimer timer;
    ops_.set_timer(&timer);
    const auto timed = [&] {
      timer.begin(stream_);
      record();
    };
    const auto graph = StepGraph::capture(stream_, timed, events);
    ops_.set_timer(nullptr);
    ready();
    for (int i = 0; i < kRuns && keep_failure(graph.status()); ++i) {
      keep_failure((*graph)->launch(stream_, events));
      if (!keep_failure(cuda_status(cudaStreamSynchronize(stream_), "running a step"))) break;
      timer.read();
    }
    recycle(events.begin), recycle(events.end);
    return timer.times();
  }

  int64_t mark() override {
    if (!failure_.ok()) return ++last_mark_;
    const cudaEvent_t event = take_event();
    keep_failure(cuda_status(cudaEventRecord(event, stream_), "marking a step"));
    marks_.push_back({++last_mark_, event, std::exchange(last_run_, {})});
    return last_mark_;
  }
  Result<std::optional<RunTime>> wait(int64_t mark) override {
    std::optional<RunTime> time;
    while (failure_.ok() && !marks_.empty() && marks_.front().id <= mark) {
      const Mark passed = marks_.front();
      marks_.pop_front();
      if (!keep_failure(cuda_status(cudaEventSynchronize(passed.event), "running a step"))) break;
      recycle(passed.event);
      if (!passed.run.end) continue;
      const auto took = seconds_between(passed.run.begin, passed.run.end);
      const auto gap = end_ ? seconds_between(end_, passed.run.begin) : Result<double>(0.0);
      if (!keep_failure(took.status()) || !keep_failure(gap.status())) break;
      time = {*took, *gap};
      recycle(passed.run.begin);
      recycle(std::exchange(end_, passed.run.end));
    }
    if (exchange_) keep_failure(exchange_->status());
    if (!failure_.ok()) return failure_;
    return time;
  }

  Result<Tensor> load(std::string_view what, const Tensor& host, DType dtype) override {
    HEARTH_ASSIGN(Tensor out, allocate(what, dtype, host.shape));
    if (!host) {
      if (host.shape.rank() > 1) {
        fill_random(out, {}, WeightScales::kNone);
      } else {
        cuda::fill_constant(out, 1.0f, stream_);
      }
      return out;
    }
    if (host.dtype == dtype) {
      upload(host, out);
      return out;
    }
    // A vector is one row.
    const int64_t columns = host.shape.rank() == 0 ? 1 : host.dim(host.shape.rank() - 1);
    Tensor rows = host;
    rows.shape = {columns == 0 ? 0 : host.shape.elements() / columns, columns};
    load_part({{rows}, {}}, out, nullptr, false);
    return out;
  }

  Result<LinearWeight> load_linear(std::string_view what, std::span<const HostMatrix> matrices, const Tensor& bias,
                                   LinearFormat format) override {
    std::vector<Part> parts;
    int64_t rows = 0;
    for (const HostMatrix& m : matrices) {
      parts.push_back({m, {RowPlace::kStacked, rows}});
      rows += m.data.dim(0);
    }
    LinearWeight out;
    HEARTH_ASSIGN(out.input, allocate_matrix(what, parts, 1, rows, format, out.data, out.scales));
    if (matrices[0].scales_input) out.input.scales = ActivationScales::kNone;
    load_parts(parts, 0, out.data, out.scales);
    out.data = only_one(out.data), out.scales = only_one(out.scales);
    if (bias) {
      HEARTH_ASSIGN(out.bias, load(what, bias, act_));
    }
    return out;
  }

  Result<MlpWeights> load_mlp(std::string_view what, const HostMatrix& gate, const HostMatrix& up,
                              const HostMatrix& down, LinearFormat format) override {
    HEARTH_ASSIGN(const ExpertWeights one, load_experts(what, {&gate, 1}, {&up, 1}, {&down, 1}, format));
    return MlpWeights{{only_one(one.gate_up), only_one(one.gate_up_scales), {}, one.input},
                      {only_one(one.down), only_one(one.down_scales), {}, one.down_input}};
  }

  Result<ExpertWeights> load_experts(std::string_view what, std::span<const HostMatrix> gate,
                                     std::span<const HostMatrix> up, std::span<const HostMatrix> down,
                                     LinearFormat format) override {
    HEARTH_CHECK(gate.size() == up.size() && gate.size() == down.size() && !gate.empty());
    const auto experts = static_cast<int64_t>(gate.size());
    const int64_t intermediate = gate[0].data.dim(0);
    std::vector<Part> gate_up, downs;
    for (size_t e = 0; e < gate.size(); ++e) {
      gate_up.push_back({gate[e], {RowPlace::kGate}});
      gate_up.push_back({up[e], {RowPlace::kUp}});
      downs.push_back({down[e], {RowPlace::kStacked}});
    }
    ExpertWeights out;
    HEARTH_ASSIGN(out.input,
                  allocate_matrix(what, gate_up, experts, 2 * intermediate, format, out.gate_up, out.gate_up_scales));
    HEARTH_ASSIGN(out.down_input,
                  allocate_matrix(what, downs, experts, down[0].data.dim(0), format, out.down, out.down_scales));
    if (out.down_input != out.input) return unimplemented(what, ": the CUDA backend wants one type for all of a layer");
    if (down[0].scales_input) out.down_input.scales = ActivationScales::kNone;
    if (gate[0].bias) {
      if (out.input.scale_groups(2 * kScaleGroup) > 1 || down[0].scales_input) {
        return unimplemented(what, ": the CUDA backend wants experts with biases in 16 bit or with a scale a channel");
      }
      HEARTH_ASSIGN(out.gate_up_bias, load_biases(what, gate_up, experts, 2 * intermediate));
      HEARTH_ASSIGN(out.down_bias, load_biases(what, downs, experts, down[0].data.dim(0)));
    }
    for (size_t e = 0; e < gate.size(); ++e) {
      const auto expert = static_cast<int64_t>(e);
      load_parts({&gate_up[2 * e], 2}, expert, out.gate_up, out.gate_up_scales);
      load_parts({&downs[e], 1}, expert, out.down, out.down_scales);
    }
    return out;
  }

  int64_t expert_rows(int64_t num_tokens, int64_t top_k, int64_t) const override { return num_tokens * top_k; }

  Status reserve_mlp(const MlpWeights& weights, int64_t max_rows) override {
    return ops_.reserve_mlp(*this, weights, max_rows);
  }
  Status reserve_experts(const ExpertWeights& weights, int64_t max_rows, int64_t top_k) override {
    return ops_.reserve_experts(*this, weights, max_rows, top_k);
  }
  Status reserve_attention(const AttentionShape& shape, const LinearWeight& out, const StepLimits& limits) override {
    return ops_.reserve_attention(*this, shape, out, limits);
  }
  int64_t max_prompt_blocks() const override { return ops_.max_prompt_blocks(); }

 private:
  struct Mark {
    int64_t id;
    cudaEvent_t event;
    StepGraph::Events run;  // the last one before it
  };

  // What MXFP4's rows lost to the units in which the products read them.
  void report_mxfp4() {
    if (mxfp4_rows_ == 0) return;
    uint32_t rounded = 0;
    HEARTH_CUDA_CHECK(cudaMemcpy(&rounded, rounded_rows_, sizeof rounded, cudaMemcpyDeviceToHost));
    log_info(mxfp4_rows_ - rounded, " of ", mxfp4_rows_, " rows from MXFP4 lie on the GPU as they were read",
             rounded == 0 ? "" : "; the others' smallest values were rounded, so that sums fit float16");
    mxfp4_rows_ = 0;
    HEARTH_CUDA_CHECK(cudaMemset(rounded_rows_, 0, sizeof rounded));
  }

  // The first error of a step is kept: what follows it is its consequence. Returns whether there was none.
  bool keep_failure(const Status& status) {
    if (status.ok()) return true;
    if (failure_.ok()) failure_ = status;
    if (exchange_) exchange_->fail();
    return false;
  }

  cudaEvent_t take_event() {
    cudaEvent_t event = nullptr;
    if (spare_events_.empty()) {
      if (!keep_failure(cuda_status(cudaEventCreate(&event), "creating an event"))) return nullptr;
      events_.push_back(event);
    } else {
      event = spare_events_.back();
      spare_events_.pop_back();
    }
    return event;
  }
  void recycle(cudaEvent_t event) {
    if (event) spare_events_.push_back(event);
  }
  static Result<size_t> byte_size(std::string_view what, DType dtype, const Shape& shape) {
    std::optional<int64_t> bytes = dtype_size(dtype);
    for (int i = 0; i < shape.rank(); ++i) bytes = bytes ? checked_mul(*bytes, shape[i]) : bytes;
    if (!bytes || *bytes < 0) return invalid(what, ": its size overflows");
    return static_cast<size_t>(std::max<int64_t>(*bytes, 16));
  }

  void enqueue_copy(const void* from, void* to, int64_t from_bytes, int64_t to_bytes, cudaMemcpyKind kind) {
    HEARTH_CHECK(from_bytes == to_bytes);
    if (!failure_.ok()) return;
    keep_failure(cuda_status(cudaMemcpyAsync(to, from, static_cast<size_t>(from_bytes), kind, stream_), "copying"));
  }

  // Memory for [matrices, rows, in] in the type that its parts become, and for its scales: [matrices, rows], or
  // [matrices, rows / 128, in / 128], where gate and up are one matrix their blocks in turns. Returns what it is
  // multiplied with.
  Result<InputType> allocate_matrix(std::string_view what, std::span<const Part> parts, int64_t matrices, int64_t rows,
                                    LinearFormat format, Tensor& data, Tensor& scales) {
    if (keeps_activations(format)) {
      return unimplemented(what, ": weights in FP8 with activations in 16 bit run on the CPU only");
    }
    const HostMatrix& first = parts[0].matrix;
    const int64_t in = first.data.dim(1);
    for (const Part& p : parts) {
      const HostMatrix& m = p.matrix;
      if (m.data.dim(1) != in || (m.data.dtype == DType::kE4M3) != (first.data.dtype == DType::kE4M3) ||
          m.kind != first.kind) {
        return unimplemented(what, ": the CUDA backend wants one type and one form of scales in a matrix");
      }
      if (m.kind == WeightScales::kBlock && p.place.base % kScaleGroup != 0) {
        return unimplemented(what, ": the CUDA backend does not split blocks of 128 rows");
      }
      if (m.kind == WeightScales::kBlock && in <= kScaleGroup) {
        return unimplemented(what, ": the CUDA backend wants more than one block of 128 columns in a row, not ", in);
      }
    }
    const bool fp8 = first.data.dtype == DType::kE4M3 || quantizes_weights(format);
    // Of 16 bit there may be any number: the logits' product takes a vocabulary of any size.
    if (in % 64 != 0 || (fp8 && rows % 16 != 0)) {
      return unimplemented(what,
                           ": the CUDA backend wants rows of a multiple of 64, in FP8 a multiple of 16 of them, not ",
                           rows, " of ", in);
    }
    const DType dtype = fp8 ? DType::kE4M3 : act_;
    const int64_t elements = matrix_elements(dtype, rows, in);
    HEARTH_ASSIGN(data, allocate(what, dtype, {matrices, elements}));
    if (elements != rows * in) zero(data);
    data.shape = {matrices, rows, in};
    if (!fp8) return InputType{act_};
    Shape shape{matrices, rows};
    if (first.kind == WeightScales::kBlock) {
      const bool pairs = parts[0].place.kind == RowPlace::kGate;  // each of the two has blocks of its own
      const int64_t blocks = pairs ? 2 * ceil_div(rows, 2 * kScaleGroup) : ceil_div(rows, kScaleGroup);
      shape = {matrices, blocks, ceil_div(in, kScaleGroup)};
    }
    HEARTH_ASSIGN(scales, allocate(what, DType::kF32, shape));
    return InputType{DType::kE4M3,
                     first.kind == WeightScales::kBlock ? ActivationScales::kPerGroup : ActivationScales::kPerToken};
  }

  // What a matrix takes in tiles.
  static int64_t matrix_elements(DType dtype, int64_t rows, int64_t in) {
    return cuda::weight_bytes(rows, in * dtype_size(dtype)) / dtype_size(dtype);
  }

  // Dummy weights. Of e4m3 with scales a channel, `scales` are what is left to multiply the checkpoint's by, where it
  // has some.
  void fill_random(const Tensor& data, const Tensor& scales, WeightScales kind) {
    if (data.dtype != DType::kE4M3) return cuda::fill_random(data, kRandomWeightDeviation, ++random_seed_, stream_);
    const float unit = kind == WeightScales::kBlock ? 1 : cuda::weight_unit_of_normals(kRandomE4M3Deviation);
    cuda::fill_random(data, kRandomE4M3Deviation / unit, ++random_seed_, stream_);
    const float scale = kind == WeightScales::kNone ? kRandomWeightDeviation / kRandomE4M3Deviation : 1;
    cuda::fill_constant(scales, scale * unit, stream_);
  }

  // [matrices, rows], where the rows stand.
  Result<Tensor> load_biases(std::string_view what, std::span<const Part> parts, int64_t matrices, int64_t rows) {
    std::vector<float> values(static_cast<size_t>(matrices * rows));
    const int64_t each = std::ssize(parts) / matrices;
    for (int64_t i = 0; i < std::ssize(parts); ++i) {
      const Part& part = parts[static_cast<size_t>(i)];
      const float* bias = part.matrix.bias.as<float>();
      for (int64_t row = 0; row < part.matrix.bias.dim(0); ++row) {
        values[static_cast<size_t>(i / each * rows + part.place.at(row))] = bias[row];
      }
    }
    return load(what, {values.data(), DType::kF32, {matrices, rows}}, act_);
  }

  // The parts of one matrix of those that allocate_matrix made.
  void load_parts(std::span<const Part> parts, int64_t index, const Tensor& data, const Tensor& scales) {
    const int64_t elements = matrix_elements(data.dtype, data.dim(1), data.dim(2));
    const WeightScales kind = parts[0].matrix.kind;
    if (!parts[0].matrix.data && index == 0) {
      fill_random({data.data, data.dtype, {data.dim(0), elements}}, scales, kind);
    }
    Tensor out = data.rows(0, 1);
    out.data = static_cast<char*>(data.data) + index * elements * dtype_size(data.dtype);
    float* out_scales = scales ? scales.rows(index, 1).as<float>() : nullptr;
    for (const Part& part : parts) {
      if (part.matrix.data) load_part(part, out, kind == WeightScales::kBlock ? nullptr : out_scales, true);
      if (kind != WeightScales::kNone) load_scales(part, out_scales);
    }
  }

  void load_part(const Part& part, const Tensor& out, float* scales, bool tiled) {
    const Tensor& host = part.matrix.data;
    uint32_t* const rounded = part.matrix.mxfp4 && scales ? rounded_rows_ : nullptr;
    if (rounded) mxfp4_rows_ += host.dim(0);
    uploader_.stage(host, [&](const void* chunk, int64_t first_row, int64_t rows) {
      cuda::load_rows({.in = chunk,
                       .in_dtype = host.dtype,
                       .rows = rows,
                       .columns = host.dim(1),
                       .first_row = first_row,
                       .place = part.place,
                       .out = out.data,
                       .tiled = tiled,
                       .out_dtype = out.dtype,
                       .scales = scales,
                       .rounded = rounded},
                      stream_);
    });
  }

  void load_scales(const Part& part, float* scales) {
    const Tensor& host = part.matrix.scales;
    RowPlace place = part.place;  // a channel's scale stands where its row does
    int64_t columns = 1;
    if (part.matrix.kind == WeightScales::kBlock) {
      columns = host.dim(1);
      place.base /= kScaleGroup, place.turn = 1;
    }
    uploader_.stage(host, [&](const void* chunk, int64_t first_row, int64_t rows) {
      cuda::load_rows({.in = chunk,
                       .in_dtype = DType::kF32,
                       .rows = rows,
                       .columns = columns,
                       .first_row = first_row,
                       .place = place,
                       .out = scales,
                       .tiled = false,
                       .out_dtype = DType::kF32,
                       .scales = nullptr,
                       .multiplies = part.matrix.kind == WeightScales::kChannel},  // a row's unit
                      stream_);
    });
  }

  const DType act_;
  const std::shared_ptr<cuda::Place> place_;
  const std::unique_ptr<cuda::Exchange> exchange_;
  cudaStream_t stream_ = nullptr;
  cuda::Uploader uploader_;
  cuda::CudaOps ops_;
  std::vector<void*> device_memory_, pinned_memory_;
  std::unordered_map<int64_t, std::unique_ptr<StepGraph>> graphs_;
  std::deque<Mark> marks_;
  std::vector<cudaEvent_t> events_, spare_events_;
  StepGraph::Events last_run_;  // not yet marked
  Status failure_;              // not ok: the device has failed
  cudaEvent_t end_ = nullptr;   // of the run that was waited for last
  int64_t last_mark_ = 0;
  uint64_t random_seed_ = 0;
  uint32_t* rounded_rows_ = nullptr;  // on the device
  int64_t mxfp4_rows_ = 0;            // loaded since the last report
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cuda_backend(DType act, int device) {
  if (act != DType::kF16 && act != DType::kBF16) return invalid("the CUDA backend computes in float16 or bfloat16");
  HEARTH_ASSIGN(std::shared_ptr<cuda::Place> place, cuda::Place::whole(device));
  auto backend = std::make_unique<CudaBackend>(act, std::move(place), nullptr);
  HEARTH_TRY(backend->init());
  return std::unique_ptr<Backend>(std::move(backend));
}

Result<std::vector<std::unique_ptr<Backend>>> make_cuda_ranks(DType act, const CudaRanks& ranks) {
  if (act != DType::kF16 && act != DType::kBF16) return invalid("the CUDA backend computes in float16 or bfloat16");
  std::vector<std::shared_ptr<cuda::Place>> places;
  if (ranks.one_gpu) {
    HEARTH_ASSIGN(places, cuda::Place::shares(ranks.first_device, ranks.count));
  } else {
    for (int rank = 0; rank < ranks.count; ++rank) {
      HEARTH_ASSIGN(places.emplace_back(), cuda::Place::whole(ranks.first_device + rank));
    }
  }
  HEARTH_ASSIGN(std::vector<std::unique_ptr<cuda::Exchange>> exchanges, cuda::Exchange::make(places, ranks.limit));
  std::vector<std::unique_ptr<Backend>> out;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    auto backend = std::make_unique<CudaBackend>(act, places[rank], std::move(exchanges[rank]));
    HEARTH_TRY(backend->init());
    out.push_back(std::move(backend));
  }
  return out;
}

}  // namespace hearth
