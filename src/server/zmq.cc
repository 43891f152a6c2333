// The library by dlopen, and its sockets.
#include "server/zmq.h"

#include <dlfcn.h>

#include <charconv>

#include "base/printable.h"

namespace hearth {
namespace {

constexpr int kLinger = 17, kReceiveMore = 13, kSendHwm = 23, kReceiveTimeout = 27, kIpv6 = 42, kMaxMessage = 22;

bool find(void* library, const char* name, auto& function) {
  function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

Result<const Zmq*> Zmq::load() {
  static const Result<const Zmq*> loaded = []() -> Result<const Zmq*> {
    void* const library = dlopen("libzmq.so.5", RTLD_NOW | RTLD_LOCAL);
    static Zmq zmq;
    const bool whole = library != nullptr && find(library, "zmq_ctx_new", zmq.ctx_new) &&
                       find(library, "zmq_ctx_term", zmq.ctx_term) && find(library, "zmq_socket", zmq.socket) &&
                       find(library, "zmq_close", zmq.close) && find(library, "zmq_setsockopt", zmq.setsockopt) &&
                       find(library, "zmq_getsockopt", zmq.getsockopt) && find(library, "zmq_bind", zmq.bind) &&
                       find(library, "zmq_connect", zmq.connect) && find(library, "zmq_send", zmq.send) &&
                       find(library, "zmq_recv", zmq.recv) && find(library, "zmq_errno", zmq.last_errno) &&
                       find(library, "zmq_strerror", zmq.strerror);
    if (!whole) {
      return Status(Code::kUnavailable, "KV events need ZeroMQ's libzmq.so.5: apt-get install libzmq5");
    }
    return &zmq;
  }();
  return loaded;
}

Result<ZmqSocket> ZmqSocket::open(int type, const std::string& endpoint, int most_messages) {
  ZmqSocket out;
  HEARTH_ASSIGN(out.zmq_, Zmq::load());
  const Zmq& zmq = *out.zmq_;
  const auto failed = [&](const char* what) {
    return invalid("cannot ", what, " ", printable(endpoint), ": ", zmq.strerror(zmq.last_errno()));
  };
  out.context_ = {zmq.ctx_new(), Terminate{out.zmq_}};
  if (!out.context_) return failed("make a socket for");
  out.socket_ = {zmq.socket(out.context_.get(), type), Close{out.zmq_}};
  if (!out.socket_) return failed("make a socket for");
  const auto set = [&](int option, int value) { zmq.setsockopt(out.socket_.get(), option, &value, sizeof value); };
  set(kLinger, 0);
  set(kSendHwm, most_messages);
  set(kReceiveTimeout, 100);  // ms: how soon a thread sees that it should end
  set(kIpv6, 1);
  const int64_t largest = 4096;  // of a peer's message
  zmq.setsockopt(out.socket_.get(), kMaxMessage, &largest, sizeof largest);
  const bool binds =
      endpoint.find('*') != endpoint.npos || endpoint.find("::") != endpoint.npos || endpoint.starts_with("ipc:");
  // ZeroMQ takes a port modulo 65,536.
  if (endpoint.starts_with("tcp:")) {
    const std::string_view port = std::string_view(endpoint).substr(endpoint.rfind(':') + 1);
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535) {
      return invalid(printable(endpoint), ": expected tcp://ADDRESS:PORT with a port from 1 to 65535");
    }
  }
  if (endpoint.starts_with("inproc:")) return invalid("an inproc: endpoint is of no use outside this process");
  if (binds && zmq.bind(out.socket_.get(), endpoint.c_str()) != 0) return failed("bind to");
  if (!binds && zmq.connect(out.socket_.get(), endpoint.c_str()) != 0) return failed("connect to");
  return out;
}

bool ZmqSocket::send(std::string_view part, bool more) const {
  return zmq_->send(socket_.get(), part.data(), part.size(), kZmqDontWait | (more ? kZmqSendMore : 0)) >= 0;
}

std::optional<std::string> ZmqSocket::receive(size_t most, bool& more) const {
  std::string out(most, '\0');
  const int size = zmq_->recv(socket_.get(), out.data(), out.size(), 0);
  if (size < 0) return std::nullopt;
  out.resize(std::min(most, static_cast<size_t>(size)));
  int rest = 0;
  size_t bytes = sizeof rest;
  zmq_->getsockopt(socket_.get(), kReceiveMore, &rest, &bytes);
  more = rest != 0;
  return out;
}

}  // namespace hearth
