// TLS for the server's connections: the certificate, and a connection's bytes on their way through a socket that never
// waits, encrypted or not. Behind it is OpenSSL.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"

struct ssl_ctx_st;
struct ssl_st;

namespace hearth {

// A certificate with its key, TLS 1.2 and 1.3. Connections that began with one keep it.
class TlsContext {
 public:
  // PEM files; the certificate's also holds the chain up to the authority. An empty `key_file`: the key is in it too.
  // Errors name the option.
  static Result<std::shared_ptr<const TlsContext>> load(const std::string& certificate_file,
                                                        const std::string& key_file);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;

 private:
  friend class Transport;
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* const context_;
};

class Transport {
 public:
  enum class Outcome {
    kDone,
    kWaitReadable,  // again when the socket is readable
    kWaitWritable,
    kEnd,        // the peer sends no more
    kPlainHttp,  // only of a handshake: the client speaks HTTP without TLS
    kBroken,
  };
  struct Transfer {
    Outcome outcome;
    size_t bytes = 0;  // with kDone, above 0
  };

  // `tls` null: bytes go as they are.
  Transport(int socket, const TlsContext* tls);
  ~Transport();
  Transport(const Transport&) = delete;

  bool is_tls() const { return tls_ != nullptr; }
  // With TLS, before anything else, until it is done.
  Outcome handshake();
  // After kPlainHttp: from here on as it is.
  void drop_tls();
  Transfer read(char* to, size_t most);
  // Where it is not kDone, the same bytes come again first.
  Transfer write(const char* from, size_t size);
  // Bytes that can be read though the socket has none.
  bool holds_input() const;
  // Says that nothing more will be sent.
  void end_output();

 private:
  Outcome outcome_of(int result) const;

  const int socket_;
  ssl_st* tls_ = nullptr;
};

}  // namespace hearth
