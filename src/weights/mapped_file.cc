// Opening, checking and mapping a file; the SIGBUS handler that names the file that shrank.
#include "weights/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>

namespace hearth {
namespace {

namespace fs = std::filesystem;

// What the handler may touch: plain atomics, and a message made beforehand.
struct Mapping {
  std::atomic<const char*> begin{nullptr};
  std::atomic<int64_t> size{0};
  char message[512];
};
constexpr int kMaxMappings = 4096;
std::array<Mapping, kMaxMappings> mappings;
std::mutex mappings_mutex;

void on_sigbus(int, siginfo_t* info, void*) {
  const char* address = static_cast<const char*>(info->si_addr);
  for (const Mapping& m : mappings) {
    const char* begin = m.begin.load(std::memory_order_acquire);
    if (begin != nullptr && address >= begin && address < begin + m.size.load(std::memory_order_relaxed)) {
      if (write(STDERR_FILENO, m.message, std::strlen(m.message)) < 0) _exit(2);
      _exit(1);
    }
  }
  signal(SIGBUS, SIG_DFL);  // not ours: the faulting access runs again and ends the process as it would have
}

Result<int> add_mapping(const char* begin, int64_t size, const std::string& path) {
  std::lock_guard lock(mappings_mutex);
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  if (!installed) return internal_error("cannot install the SIGBUS handler");
  for (int i = 0; i < kMaxMappings; ++i) {
    if (mappings[i].begin.load(std::memory_order_relaxed) != nullptr) continue;
    std::string message = cat(path.substr(path.size() - std::min<size_t>(path.size(), 400)),
                              ": truncated or unreadable while it was being read, expected ", size, " bytes\n");
    message.copy(mappings[i].message, message.size());
    mappings[i].message[message.size()] = 0;
    mappings[i].size.store(size, std::memory_order_relaxed);
    mappings[i].begin.store(begin, std::memory_order_release);
    return i;
  }
  return Status(Code::kResourceExhausted, cat(path, ": more than ", kMaxMappings, " files mapped"));
}

}  // namespace

Result<MappedFile> MappedFile::open(const fs::path& path) {
  const std::string name = printable(path.string());
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return Status(Code::kNotFound, cat(name, ": ", error.message()));
  // O_NONBLOCK: opening a pipe must not wait for its writer. O_NOFOLLOW: `real` has no links unless one was just made.
  const int fd = ::open(real.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return invalid(name, ": ", std::generic_category().message(errno));
  struct stat info = {};
  const bool known = fstat(fd, &info) == 0;
  void* data = nullptr;
  if (known && S_ISREG(info.st_mode) && info.st_size > 0) {
    data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  }
  const int mmap_errno = errno;
  close(fd);
  if (!known || !S_ISREG(info.st_mode)) return invalid(name, ": not a regular file");
  if (data == MAP_FAILED) return internal_error(name, ": mmap: ", std::generic_category().message(mmap_errno));

  MappedFile out;
  out.path_ = name;
  out.size_ = info.st_size;
  out.data_ = static_cast<const char*>(data);
  if (data != nullptr) {
    HEARTH_ASSIGN(out.slot_, add_mapping(out.data_, out.size_, name));
  }
  return out;
}

MappedFile::~MappedFile() {
  if (slot_ >= 0) {
    std::lock_guard lock(mappings_mutex);
    mappings[slot_].begin.store(nullptr, std::memory_order_release);
  }
  if (data_ != nullptr) munmap(const_cast<char*>(data_), static_cast<size_t>(size_));
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

Result<std::string> read_text_file(const fs::path& path, int64_t limit) {
  HEARTH_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (file.size() > limit) return invalid(file.path(), ": expected at most ", limit, " bytes, found ", file.size());
  return std::string(file.bytes());
}

Result<std::optional<std::string>> read_text_file_if_there(const fs::path& path, int64_t limit) {
  if (!is_there(path)) return std::optional<std::string>();
  HEARTH_ASSIGN(std::string text, read_text_file(path, limit));
  return std::optional<std::string>(std::move(text));
}

}  // namespace hearth
