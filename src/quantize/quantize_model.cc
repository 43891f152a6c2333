// Plans the tensors and their files, writes them, then config.json and the folder's other files.
#include "quantize/quantize_model.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "base/log.h"
#include "cpu/cpu_backend.h"
#include "weights/mapped_file.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = 1 << 20;
constexpr float kLeastInputScale = 1e-12f;  // a scale of 0 has no inverse

// A tensor of the checkpoint and what becomes of it.
struct Item {
  std::string name;  // Hearth's
  bool quantize = false;
  std::vector<SafetensorsEntry> entries;  // by the names in the file; the first is the tensor
  int64_t bytes() const {
    int64_t sum = 0;
    for (const SafetensorsEntry& entry : entries) sum += entry.bytes();
    return sum;
  }
};

struct Plan {
  std::vector<Item> items;
  std::vector<std::string> ignored;  // names in the file of the linear layers that stay as they are
  int64_t bytes = 0, matrices = 0;
};

Result<Plan> make_plan(const OpenedModel& opened, Fp8Scheme scheme) {
  const Checkpoint& checkpoint = *opened.checkpoint;
  const std::unique_ptr<Backend> backend = make_cpu_backend(DType::kF32, 1);
  HEARTH_ASSIGN(const std::vector<std::string> listed, linear_matrices(opened, *backend));
  const std::set<std::string, std::less<>> linear(listed.begin(), listed.end());
  Plan plan;
  plan.ignored.push_back(checkpoint.name_in_file("head"));
  for (const auto& [name, entry] : checkpoint.entries()) {
    Item& item = plan.items.emplace_back();
    item.name = name;
    const bool is_weight = name.ends_with(".weight");
    const std::string module = name.substr(0, name.size() - (is_weight ? std::string_view(".weight").size() : 0));
    const std::string in_file = checkpoint.name_in_file(module);
    item.quantize = is_weight && linear.contains(module);
    if (item.quantize) {
      if (entry.dtype != DType::kF32 && entry.dtype != DType::kF16 && entry.dtype != DType::kBF16) {
        return unimplemented(entry.source, ": expected float16, bfloat16 or float32, found ", dtype_name(entry.dtype));
      }
      item.entries = quantized_entries(scheme, in_file, entry.shape[0], entry.shape[1]);
      ++plan.matrices;
    } else {
      item.entries = {{checkpoint.name_in_file(name), entry.dtype, entry.shape}};
      const bool is_matrix = is_weight && entry.shape.rank() == 2 && module != "embedding";
      if (is_matrix && in_file != plan.ignored[0]) plan.ignored.push_back(in_file);
    }
    plan.bytes += item.bytes();
  }
  return plan;
}

// Whether a file of the model's folder goes along: configs, tokenizers, licences; no weights, and nothing that states
// what is no longer so.
bool is_copied(const fs::directory_entry& file) {
  const std::string name = file.path().filename().string(), type = file.path().extension().string();
  for (const char* weights : {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx"}) {
    if (type == weights) return false;
  }
  std::error_code error;
  return !name.starts_with('.') && name != "config.json" && !name.ends_with(".index.json") &&
         file.is_regular_file(error) && !error;
}

// OUT.partial: a folder that is removed unless it was moved to its place. It is locked, so that what a process left
// that was killed can be told from what another one still writes, and marked, so that it is not taken for anybody's
// own.
class NewFolder {
 public:
  static Result<std::unique_ptr<NewFolder>> create(const fs::path& place) {
    std::unique_ptr<NewFolder> out(new NewFolder(place));
    HEARTH_TRY(out->take());
    out->ours_ = true;
    HEARTH_TRY(out->clear());
    return out;
  }
  ~NewFolder() {
    std::error_code ignored;
    if (ours_) fs::remove_all(path_, ignored);
    if (lock_ >= 0) close(lock_);
  }
  const fs::path& path() const { return path_; }
  Status move_to_place() {
    std::error_code error;
    if (!fs::remove(path_ / kMark, error)) return failed(error.message());
    // Not every file system can refuse to replace; what it would replace is an empty folder at most.
    int moved = renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, place_.c_str(), RENAME_NOREPLACE);
    if (moved != 0 && (errno == EINVAL || errno == ENOSYS)) moved = std::rename(path_.c_str(), place_.c_str());
    if (moved != 0) return invalid(printable(place_.string()), ": ", std::generic_category().message(errno));
    ours_ = false;
    return {};
  }

 private:
  static constexpr const char* kMark = ".being-written-by-hearth";

  explicit NewFolder(const fs::path& place) : place_(place), path_(place) { path_ += ".partial"; }

  template <typename... Parts>
  Status failed(const Parts&... parts) const {
    return invalid(printable(path_.string()), ": ", parts...);
  }

  // Makes and locks the folder, or locks one that is empty or marked.
  Status take() {
    const bool made = mkdir(path_.c_str(), 0777) == 0;
    if (!made && errno != EEXIST) return failed("cannot be made: ", std::generic_category().message(errno));
    lock_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (lock_ < 0) return failed(made ? "cannot be opened" : "is there already");
    const bool locked = flock(lock_, LOCK_EX | LOCK_NB) == 0;
    // Some file systems have no locks; then only a folder just made is surely nobody else's.
    if (!locked && (errno == EWOULDBLOCK || !made)) return failed("is being written by another process");
    struct stat held = {}, named = {};  // whoever held it before may have moved it to its place
    if (fstat(lock_, &held) != 0 || lstat(path_.c_str(), &named) != 0 || held.st_ino != named.st_ino) {
      return failed("is being written by another process");
    }
    std::error_code error;
    if (made || fs::exists(path_ / kMark, error)) return {};
    return fs::is_empty(path_, error) && !error ? Status() : failed("is there already");
  }

  // Nothing in it but the mark.
  Status clear() {
    std::error_code error;
    const int mark = open((path_ / kMark).c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (mark < 0) return failed("cannot be written: ", std::generic_category().message(errno));
    close(mark);
    for (const auto& left : fs::directory_iterator(path_, error)) {
      if (left.path().filename() != kMark) fs::remove_all(left.path(), error);
      if (error) break;
    }
    return error ? failed(error.message()) : Status();
  }

  const fs::path place_;
  fs::path path_;
  int lock_ = -1;
  bool ours_ = false;
};

Status write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file ? Status() : invalid("cannot write ", printable(path.string()));
}

class Writing {
 public:
  Writing(const OpenedModel& opened, const Plan& plan, const std::map<std::string, float>& inputs,
          const QuantizeOptions& options)
      : opened_(opened), plan_(plan), inputs_(inputs), options_(options) {}

  Result<int64_t> write_tensors(const fs::path& folder) {
    const std::vector<std::span<const Item>> shards = cut();
    Json map = Json::object();
    for (size_t i = 0; i < shards.size(); ++i) {
      char name[64] = "model.safetensors";
      if (shards.size() > 1) std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
      std::vector<SafetensorsEntry> entries;
      for (const Item& item : shards[i]) entries.insert(entries.end(), item.entries.begin(), item.entries.end());
      for (const SafetensorsEntry& entry : entries) map[entry.name] = name;
      HEARTH_ASSIGN(SafetensorsWriter file, SafetensorsWriter::create(folder / name, std::move(entries)));
      for (const Item& item : shards[i]) HEARTH_TRY(write(item, file));
      HEARTH_TRY(file.finish());
    }
    if (shards.size() > 1) {
      const Json index = {{"metadata", {{"total_size", plan_.bytes}}}, {"weight_map", std::move(map)}};
      HEARTH_TRY(write_text(folder / "model.safetensors.index.json", index.dump(1) + "\n"));
    }
    return std::ssize(shards);
  }

  Status write_other_files(const fs::path& folder) const {
    HEARTH_ASSIGN(const std::string text, read_text_file(opened_.path / "config.json"));
    HEARTH_ASSIGN(Json config, parse_json(text));
    config["quantization_config"] = quantization_config(options_.scheme, plan_.ignored);
    HEARTH_TRY(write_text(folder / "config.json", config.dump(2) + "\n"));
    std::error_code error;
    for (auto at = fs::directory_iterator(opened_.path, error); !error && at != fs::directory_iterator();
         at.increment(error)) {
      if (!is_copied(*at)) continue;
      HEARTH_ASSIGN(const std::string bytes, read_text_file(at->path()));
      HEARTH_TRY(write_text(folder / at->path().filename(), bytes));
    }
    return error ? invalid(printable(opened_.path.string()), ": ", error.message()) : Status();
  }

 private:
  std::vector<std::span<const Item>> cut() const {
    std::vector<std::span<const Item>> out;
    int64_t bytes = 0;
    for (size_t begin = 0, i = 0; i < plan_.items.size(); ++i) {
      if (i > begin && bytes + plan_.items[i].bytes() > options_.shard_bytes) begin = i, bytes = 0;
      if (i == begin) out.emplace_back();
      out.back() = std::span(plan_.items).subspan(begin, i + 1 - begin);
      bytes += plan_.items[i].bytes();
    }
    return out;
  }

  Status write(const Item& item, SafetensorsWriter& file) {
    if (options_.stop != nullptr && *options_.stop) return Status(Code::kCancelled, "stopped by a signal");
    HEARTH_ASSIGN(const HostTensor tensor, opened_.checkpoint->read(item.name));
    if (!item.quantize) {
      HEARTH_TRY(file.write(item.entries[0].name, tensor.view.data));
    } else {
      const QuantizedMatrix q = quantize_matrix(options_.scheme, tensor.view);
      const bool finite = std::ranges::all_of(q.scales, [](float s) { return std::isfinite(s); }) &&
                          std::ranges::none_of(q.data, [](E4M3 v) { return (v.bits & 0x7f) == 0x7f; });
      if (!finite) {
        return invalid(opened_.checkpoint->entries().find(item.name)->second.source,
                       ": expected finite values, found others");
      }
      HEARTH_TRY(file.write(item.entries[0].name, q.data.data()));
      HEARTH_TRY(file.write(item.entries[1].name, q.scales.data()));
      if (item.entries.size() > 2) {
        const auto input = inputs_.find(item.name.substr(0, item.name.rfind('.')));
        HEARTH_CHECK(input != inputs_.end());
        const float scale = std::max(input->second / kE4M3Max, kLeastInputScale);
        HEARTH_TRY(file.write(item.entries[2].name, &scale));
      }
    }
    written_ += item.bytes();
    if (options_.progress) options_.progress(written_, plan_.bytes);
    return {};
  }

  const OpenedModel& opened_;
  const Plan& plan_;
  const std::map<std::string, float>& inputs_;
  const QuantizeOptions& options_;
  int64_t written_ = 0;
};

Result<Plan> plan_quantize(const OpenedModel& opened, const fs::path& out, const QuantizeOptions& options) {
  const std::string where = printable(opened.path.string()), place = printable(out.string());
  if (opened.checkpoint->gguf() != nullptr) {
    return unimplemented(where, ": expected a folder of safetensors, found a GGUF file");
  }
  if (opened.config.layers[0].feed_forward.expert_bias) {
    return unimplemented(where, ": experts with biases have no FP8 layout that other programs read");
  }
  if (opened.config.quantization.any()) {
    return invalid(where, ": expected a 16-bit model, found one that is quantized");
  }
  if (is_there(out)) return invalid(place, ": is there already");
  HEARTH_ASSIGN(Plan plan, make_plan(opened, options.scheme));
  std::error_code error;
  const fs::path parent = fs::absolute(out).parent_path();
  const fs::space_info space = fs::space(parent, error);
  if (error) return invalid(printable(parent.string()), ": ", error.message());
  if (static_cast<uint64_t>(plan.bytes) > space.available) {
    return Status(Code::kResourceExhausted, cat(place, ": needs ", ceil_div(plan.bytes, kMiB), " MiB, ",
                                                space.available / kMiB, " MiB are free"));
  }
  return plan;
}

}  // namespace

Status check_quantize(const OpenedModel& opened, const fs::path& out, const QuantizeOptions& options) {
  return plan_quantize(opened, out, options).status();
}

Result<QuantizeResult> quantize_model(const OpenedModel& opened, const fs::path& given,
                                      const std::map<std::string, float>& inputs, const QuantizeOptions& options) {
  const fs::path out = given.has_filename() ? given : given.parent_path();  // "OUT/" is OUT
  HEARTH_ASSIGN(const Plan plan, plan_quantize(opened, out, options));
  HEARTH_ASSIGN(const std::unique_ptr<NewFolder> folder, NewFolder::create(out));
  Writing writing(opened, plan, inputs, options);
  HEARTH_ASSIGN(const int64_t files, writing.write_tensors(folder->path()));
  HEARTH_TRY(writing.write_other_files(folder->path()));
  HEARTH_TRY(folder->move_to_place());
  return QuantizeResult{plan.matrices, plan.bytes, files};
}

}  // namespace hearth
