// For tests: a certificate made for the occasion, and RawClient's calls over TLS.
#pragma once

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "server/raw_client.h"

namespace hearth {

// PEM of a new key and a certificate that it signs itself; one after the other.
inline std::pair<std::string, std::string> make_certificate(const char* name = "localhost") {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
  X509_set_pubkey(certificate, key);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(certificate, subject);
  X509_sign(certificate, key, EVP_sha256());
  const auto text_of = [](auto&& write) {
    BIO* bio = BIO_new(BIO_s_mem());
    EXPECT_EQ(write(bio), 1);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string out(data, static_cast<size_t>(size));
    BIO_free(bio);
    return out;
  };
  std::pair out{text_of([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); }), text_of([&](BIO* bio) {
                  return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
                })};
  X509_free(certificate);
  EVP_PKEY_free(key);
  return out;
}

class TlsClient : public RawClient {
 public:
  explicit TlsClient(int port, int version = 0) : RawClient(port) {
    tls_ = SSL_new(context());
    if (version != 0) SSL_set_max_proto_version(tls_, version);
    SSL_set_fd(tls_, fd());
    connected_ = SSL_connect(tls_) == 1;
  }
  ~TlsClient() { SSL_free(tls_); }
  bool connected() const { return connected_; }
  std::string certificate_name() const {
    X509* certificate = SSL_get1_peer_certificate(tls_);
    char name[256] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    X509_free(certificate);
    return name;
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      ERR_clear_error();
      const int n = SSL_write(tls_, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)));
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Says that nothing more will be sent, as TLS does.
  void end_input() { SSL_shutdown(tls_); }
  std::optional<std::string> read_to_end(std::chrono::milliseconds patience) {
    std::string got;
    char buffer[16 << 10];
    while (true) {
      if (SSL_pending(tls_) == 0 && !readable(patience)) return std::nullopt;
      ERR_clear_error();
      const int n = SSL_read(tls_, buffer, sizeof buffer);
      if (n <= 0) return got;
      got.append(buffer, static_cast<size_t>(n));
    }
  }

 private:
  static SSL_CTX* context() {
    static SSL_CTX* const out = [] {
      SSL_CTX* made = SSL_CTX_new(TLS_client_method());
      SSL_CTX_set_mode(made, SSL_MODE_AUTO_RETRY);
      SSL_CTX_set_options(made, SSL_OP_IGNORE_UNEXPECTED_EOF);
      return made;
    }();
    return out;
  }
  SSL* tls_ = nullptr;
  bool connected_ = false;
};

}  // namespace hearth
