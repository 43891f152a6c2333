// OpenSSL on a non-blocking socket. Its errors are a queue of the thread's, emptied before each call.
#include "server/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <new>
#include <string_view>

namespace hearth {
namespace {

std::string last_reason() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason == nullptr ? "unknown error" : reason;
}

// HTTP/1.1, where a client offers it.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned int size, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kOurs, sizeof kOurs - 1, offered, size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const std::string& certificate_file,
                                                           const std::string& key_file) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to sockets that a peer may have left
  // The system's openssl.cnf is of the system's OpenSSL, not of the one that is linked in.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  ERR_clear_error();
  SSL_CTX* const context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) return internal_error("TLS: ", last_reason());
  std::shared_ptr<const TlsContext> out(new TlsContext(context));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context,
                      SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // What is written may grow and move before it is written again; idle connections hold no buffers.
  SSL_CTX_set_mode(context,
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
  // A key behind a password would ask for it on the terminal.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return 0; });

  if (SSL_CTX_use_certificate_chain_file(context, certificate_file.c_str()) != 1) {
    return invalid("--ssl-certfile holds no certificate that can be read: ", last_reason());
  }
  const bool apart = !key_file.empty();
  const std::string& key = apart ? key_file : certificate_file;
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return invalid(apart ? "--ssl-keyfile" : "--ssl-certfile, without an --ssl-keyfile,",
                   " holds no key of the certificate that can be read: ", last_reason());
  }
  return out;
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

Transport::Transport(int socket, const TlsContext* tls) : socket_(socket) {
  if (tls == nullptr) return;
  tls_ = SSL_new(tls->context_);
  if (tls_ == nullptr || SSL_set_fd(tls_, socket) != 1) {
    SSL_free(tls_);
    throw std::bad_alloc();
  }
  SSL_set_accept_state(tls_);
}

Transport::~Transport() { drop_tls(); }

void Transport::drop_tls() {
  SSL_free(tls_);
  tls_ = nullptr;
}

Transport::Outcome Transport::outcome_of(int result) const {
  switch (SSL_get_error(tls_, result)) {
    case SSL_ERROR_NONE: return Outcome::kDone;
    case SSL_ERROR_WANT_READ: return Outcome::kWaitReadable;
    case SSL_ERROR_WANT_WRITE: return Outcome::kWaitWritable;
    case SSL_ERROR_ZERO_RETURN: return Outcome::kEnd;
    default: return Outcome::kBroken;
  }
}

Transport::Outcome Transport::handshake() {
  ERR_clear_error();
  const Outcome outcome = outcome_of(SSL_accept(tls_));
  if (outcome != Outcome::kBroken || ERR_GET_LIB(ERR_peek_error()) != ERR_LIB_SSL) return outcome;
  return ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST ? Outcome::kPlainHttp : outcome;
}

Transport::Transfer Transport::read(char* to, size_t most) {
  if (tls_ == nullptr) {
    const ssize_t n = recv(socket_, to, most, 0);
    if (n > 0) return {Outcome::kDone, static_cast<size_t>(n)};
    if (n == 0) return {Outcome::kEnd};
    return {errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? Outcome::kWaitReadable : Outcome::kBroken};
  }
  // A record holds 16 KiB at most.
  size_t total = 0;
  Outcome outcome = Outcome::kDone;
  while (outcome == Outcome::kDone && total < most) {
    ERR_clear_error();
    size_t n = 0;
    outcome = outcome_of(SSL_read_ex(tls_, to + total, most - total, &n));
    total += n;
  }
  return total > 0 ? Transfer{Outcome::kDone, total} : Transfer{outcome};
}

Transport::Transfer Transport::write(const char* from, size_t size) {
  if (tls_ == nullptr) {
    const ssize_t n = send(socket_, from, size, MSG_NOSIGNAL);
    if (n >= 0) return {Outcome::kDone, static_cast<size_t>(n)};
    return {errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? Outcome::kWaitWritable : Outcome::kBroken};
  }
  ERR_clear_error();
  size_t n = 0;
  const Outcome outcome = outcome_of(SSL_write_ex(tls_, from, size, &n));
  return outcome == Outcome::kDone ? Transfer{outcome, n} : Transfer{outcome};
}

bool Transport::holds_input() const { return tls_ != nullptr && SSL_pending(tls_) > 0; }

void Transport::end_output() {
  if (tls_ != nullptr && SSL_is_init_finished(tls_)) {
    ERR_clear_error();
    SSL_shutdown(tls_);
  }
  shutdown(socket_, SHUT_WR);
}

}  // namespace hearth
