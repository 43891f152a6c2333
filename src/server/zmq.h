// ZeroMQ's C library, opened when it is first needed: only those who ask for KV events need it on their machine
// (Debian's libzmq5). Names and constants are those of zmq.h, 4.x.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"

namespace hearth {

// The functions we call, as zmq.h declares them.
struct Zmq {
  void* (*ctx_new)();
  int (*ctx_term)(void*);
  void* (*socket)(void*, int);
  int (*close)(void*);
  int (*setsockopt)(void*, int, const void*, size_t);
  int (*bind)(void*, const char*);
  int (*connect)(void*, const char*);
  int (*send)(void*, const void*, size_t, int);
  int (*recv)(void*, void*, size_t, int);
  int (*getsockopt)(void*, int, void*, size_t*);
  int (*last_errno)();
  const char* (*strerror)(int);

  // kUnavailable: the library is not on this machine. One for the process, never closed.
  static Result<const Zmq*> load();
};

constexpr int kZmqPub = 1, kZmqRouter = 6;
constexpr int kZmqDontWait = 1, kZmqSendMore = 2;

// A socket of one thread at a time, in a context of its own.
class ZmqSocket {
 public:
  // Binds where `endpoint` names no single peer (a *, ::, or ipc:), else connects. `most_messages`: for each peer; more
  // are dropped (PUB).
  static Result<ZmqSocket> open(int type, const std::string& endpoint, int most_messages);

  // One message of several parts; false: there is no room for it, or nobody to send it to.
  bool send(std::string_view part, bool more) const;
  // The next part, cut to `most` bytes, within the time. Nullopt: none came. `more`: another part follows.
  std::optional<std::string> receive(size_t most, bool& more) const;

 private:
  struct Close {
    const Zmq* zmq;
    void operator()(void* socket) const { zmq->close(socket); }
  };
  struct Terminate {
    const Zmq* zmq;
    void operator()(void* context) const { zmq->ctx_term(context); }
  };
  const Zmq* zmq_ = nullptr;
  std::unique_ptr<void, Terminate> context_{nullptr, Terminate{nullptr}};
  std::unique_ptr<void, Close> socket_{nullptr, Close{nullptr}};  // closed before its context ends
};

}  // namespace hearth
