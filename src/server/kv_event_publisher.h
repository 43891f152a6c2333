// KvEventPublisher: what the prefix caches hold, told over ZeroMQ in vLLM's form (also SGLang's), which llm-d, Dynamo
// and others read to send a prompt to the server that has its beginning cached.
//
// A message is three frames: topic, a count of 8 bytes (big-endian, from 0, one more each time), and msgpack of
// [seconds since 1970, [event, ...], data-parallel rank]. An event is ["BlockStored", [hash, ...], hash before or nil,
// [token, ...], tokens a block, nil, "GPU"], ["BlockRemoved", [hash, ...], "GPU"] or ["AllBlocksCleared"], which is the
// first. A hash is 64 bits that name a block of this run of this server. A step makes at most one message an engine.
//
// A client that missed some asks the replay endpoint: ["", count] of 8 bytes, and gets ["", count, payload] of each
// kept message from there on, then ["", -1, ""].
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "kv/kv_events.h"
#include "server/zmq.h"

namespace hearth {

struct KvEventOptions {
  std::string endpoint;         // such as tcp://*:5557; empty: no events
  std::string replay_endpoint;  // empty: none
  std::string topic;
};

class KvEventPublisher {
 public:
  // Not ok: no ZeroMQ here, or an endpoint that cannot be had.
  static Result<std::shared_ptr<KvEventPublisher>> open(const KvEventOptions& options, int64_t block_size);
  ~KvEventPublisher();

  // For the engine of a data-parallel rank, whose thread alone calls it. Keeps the publisher alive.
  static std::shared_ptr<KvEventSink> sink(std::shared_ptr<KvEventPublisher> publisher, int64_t rank);

 private:
  struct Event {
    std::vector<uint64_t> hashes;  // of a chain, where they are stored
    uint64_t before = 0;           // 0: nothing
    std::vector<int32_t> tokens;   // empty: removed
  };
  struct Batch {
    int64_t count;
    double time;
    int64_t rank;
    std::vector<Event> events;  // none: all is cleared
  };
  struct Kept {
    int64_t count;
    std::shared_ptr<const std::string> payload;
  };
  class Sink;

  KvEventPublisher(ZmqSocket publish, std::optional<ZmqSocket> replay, std::string topic, int64_t block_size);
  void push(int64_t rank, std::vector<Event> events);  // from any thread
  void publish();                                      // a thread
  void replay();                                       // another
  std::string pack(const Batch& batch) const;

  const ZmqSocket publish_socket_;
  const std::optional<ZmqSocket> replay_socket_;
  const std::string topic_;
  const int64_t block_size_;
  const uint64_t seed_;
  std::mutex push_mutex_;  // counts are in the order of the queue
  int64_t count_ = 0;
  BoundedQueue<Batch> queue_;
  std::mutex kept_mutex_;
  std::deque<Kept> kept_;
  int64_t kept_bytes_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread publish_thread_, replay_thread_;
};

}  // namespace hearth
