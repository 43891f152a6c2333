// Events gathered a step on the engine's thread; packed, sent and kept on one of the publisher's own.
#include "server/kv_event_publisher.h"

#include <bit>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "base/json.h"
#include "base/log.h"

namespace hearth {
namespace {

constexpr size_t kMostWaiting = 1024;         // batches
constexpr size_t kMostKept = 10'000;          // messages
constexpr int64_t kMostKeptBytes = 64 << 20;  // of them
constexpr int kMostUnsent = 4096;             // messages to a slow subscriber
constexpr size_t kLargestFrame = 256;         // of a replay request

std::string big_endian(int64_t value) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(static_cast<uint64_t>(value) >> (56 - 8 * i));
  return out;
}

// splitmix64's last part: a bijection, so that two links of an engine never have one hash.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

class KvEventPublisher::Sink final : public KvEventSink {
 public:
  Sink(std::shared_ptr<KvEventPublisher> publisher, int64_t rank)
      : publisher_(std::move(publisher)), rank_(rank), seed_(mix(publisher_->seed_ + static_cast<uint64_t>(rank))) {}

  void stored(uint64_t link, uint64_t before, std::span<const int32_t> tokens) override {
    const bool goes_on = !events_.empty() && !events_.back().tokens.empty() && last_stored_ == before && before != 0;
    if (!goes_on) events_.push_back({{}, before == 0 ? 0 : hash(before), {}});
    events_.back().hashes.push_back(hash(link));
    events_.back().tokens.insert(events_.back().tokens.end(), tokens.begin(), tokens.end());
    last_stored_ = link;
  }
  void removed(uint64_t link) override {
    if (events_.empty() || !events_.back().tokens.empty()) events_.push_back({});
    events_.back().hashes.push_back(hash(link));
  }
  void flush() override {
    if (!events_.empty()) publisher_->push(rank_, std::move(events_));
    events_.clear();
  }

 private:
  uint64_t hash(uint64_t link) const { return mix(seed_ + link); }

  const std::shared_ptr<KvEventPublisher> publisher_;
  const int64_t rank_;
  const uint64_t seed_;
  std::vector<Event> events_;
  uint64_t last_stored_ = 0;
};

Result<std::shared_ptr<KvEventPublisher>> KvEventPublisher::open(const KvEventOptions& options, int64_t block_size) {
  HEARTH_ASSIGN(ZmqSocket publish, ZmqSocket::open(kZmqPub, options.endpoint, kMostUnsent));
  std::optional<ZmqSocket> replay;
  if (!options.replay_endpoint.empty()) {
    HEARTH_ASSIGN(replay, ZmqSocket::open(kZmqRouter, options.replay_endpoint, kMostKept));
  }
  return std::shared_ptr<KvEventPublisher>(
      new KvEventPublisher(std::move(publish), std::move(replay), options.topic, block_size));
}

KvEventPublisher::KvEventPublisher(ZmqSocket publish, std::optional<ZmqSocket> replay, std::string topic,
                                   int64_t block_size)
    : publish_socket_(std::move(publish)),
      replay_socket_(std::move(replay)),
      topic_(std::move(topic)),
      block_size_(block_size),
      seed_(std::random_device{}() | uint64_t{std::random_device{}()} << 32),
      queue_(kMostWaiting) {
  publish_thread_ = std::thread([this] { this->publish(); });
  if (replay_socket_) replay_thread_ = std::thread([this] { this->replay(); });
}

KvEventPublisher::~KvEventPublisher() {
  stopping_ = true;
  queue_.close();
  publish_thread_.join();
  if (replay_thread_.joinable()) replay_thread_.join();
}

std::shared_ptr<KvEventSink> KvEventPublisher::sink(std::shared_ptr<KvEventPublisher> publisher, int64_t rank) {
  publisher->push(rank, {});
  return std::make_shared<Sink>(std::move(publisher), rank);
}

void KvEventPublisher::push(int64_t rank, std::vector<Event> events) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::lock_guard lock(push_mutex_);
  // One that is lost leaves a gap in the counts.
  if (!queue_.try_push({count_++, now, rank, std::move(events)}) && !stopping_) {
    log_warning("KV events come faster than they can be sent: a message was dropped");
  }
}

std::string KvEventPublisher::pack(const Batch& batch) const {
  Json events = Json::array();
  for (const Event& event : batch.events) {
    if (event.tokens.empty()) {
      events.push_back({"BlockRemoved", event.hashes, "GPU"});
    } else {
      const Json before = event.before == 0 ? Json() : Json(event.before);
      events.push_back({"BlockStored", event.hashes, before, event.tokens, block_size_, nullptr, "GPU"});
    }
  }
  if (batch.events.empty()) events.push_back(Json::array({"AllBlocksCleared"}));
  std::string out;
  Json::to_msgpack(Json::array({batch.time, std::move(events), batch.rank}), out);
  return out;
}

void KvEventPublisher::publish() {
  while (const std::optional<Batch> batch = queue_.pop()) {
    auto payload = std::make_shared<const std::string>(pack(*batch));
    {
      std::lock_guard lock(kept_mutex_);
      kept_bytes_ += std::ssize(*payload);
      kept_.push_back({batch->count, payload});
      while (kept_.size() > kMostKept || (kept_bytes_ > kMostKeptBytes && kept_.size() > 1)) {
        kept_bytes_ -= std::ssize(*kept_.front().payload);
        kept_.pop_front();
      }
    }
    publish_socket_.send(topic_, true);
    publish_socket_.send(big_endian(batch->count), true);
    publish_socket_.send(*payload, false);
  }
}

void KvEventPublisher::replay() {
  while (!stopping_) {
    // Whoever asks, an empty frame, the first count that is wanted.
    std::vector<std::string> frames;
    for (bool more = true; more;) {
      auto frame = replay_socket_->receive(kLargestFrame, more);
      if (!frame) break;
      if (frames.size() < 4) frames.push_back(std::move(*frame));
    }
    if (frames.size() != 3 || frames[2].size() != 8) continue;
    int64_t first = 0;
    for (char c : frames[2]) first = first << 8 | static_cast<uint8_t>(c);
    std::vector<Kept> wanted;
    {
      std::lock_guard lock(kept_mutex_);
      for (const Kept& kept : kept_) {
        if (kept.count >= first) wanted.push_back(kept);
      }
    }
    const auto reply = [&](int64_t count, std::string_view payload) {
      replay_socket_->send(frames[0], true);
      replay_socket_->send({}, true);
      replay_socket_->send(big_endian(count), true);
      replay_socket_->send(payload, false);
    };
    for (const Kept& kept : wanted) reply(kept.count, *kept.payload);
    reply(-1, {});
  }
}

}  // namespace hearth
