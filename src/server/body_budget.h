// BodyBudget: how many bytes of requests the server holds, in sum and for each client, from the socket to the end of
// parsing. May be used from any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace hearth {

class BodyBudget {
  struct Use {
    int64_t shares = 0, bytes = 0;
  };
  using Client = std::pair<const std::string, Use>;

 public:
  // The last eighth of either limit is kept for requests up to this size, so that big ones never crowd them out.
  static constexpr int64_t kSmallRequestBytes = 256 << 10;

  BodyBudget(int64_t total, int64_t per_client) : total_(total), per_client_(per_client) {}

  // What a request of more than that may take of a limit.
  static constexpr int64_t largest(int64_t limit) { return limit - limit / 8; }

  enum class Verdict { kFits, kServerFull, kClientFull };

  // The bytes of one request, counted until it goes away. The budget outlives it.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept { *this = std::move(other); }
    Share& operator=(Share&& other) noexcept;
    ~Share() { release(); }
    // Whether it could hold so many.
    Verdict check(int64_t bytes) const;
    // Holds so many from now on; where they do not fit, it stays as it was. Fewer always fit.
    Verdict resize(int64_t bytes);

   private:
    friend class BodyBudget;
    void release();

    BodyBudget* budget_ = nullptr;
    Client* client_ = nullptr;
    int64_t bytes_ = 0;
  };

  // `client` is what tells clients apart.
  Share share(const std::string& client);
  int64_t bytes() const;

 private:
  Verdict check(const Client& client, int64_t from, int64_t to) const;

  const int64_t total_, per_client_;
  mutable std::mutex mutex_;
  int64_t bytes_ = 0;
  std::unordered_map<std::string, Use> clients_;  // those with a share
};

}  // namespace hearth
