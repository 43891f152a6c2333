// URLs taken apart, and OpenSSL's context for those that say https.
#include "bench/endpoint.h"

#include <openssl/ssl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <cstdlib>

#include "base/cat.h"

namespace hearth {
namespace {

namespace ssl = boost::asio::ssl;

// Where distributions keep their authorities in one file. OpenSSL is linked in, so its own default is one system's.
constexpr const char* kBundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                    "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

Result<std::shared_ptr<ssl::context>> make_context(const TlsTrust& trust) {
  // The system's openssl.cnf is of the system's OpenSSL, not of the one that is linked in.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_IGNORE_UNEXPECTED_EOF);
  context->set_verify_mode(trust.insecure ? ssl::verify_none : ssl::verify_peer);
  if (trust.insecure) return context;
  boost::system::error_code error;
  if (!trust.ca_file.empty()) {
    context->load_verify_file(trust.ca_file, error);
    if (error) return invalid("--cacert names no file of certificates that can be read").with_param("cacert");
    return context;
  }
  context->set_default_verify_paths(error);
  if (std::getenv("SSL_CERT_FILE") == nullptr) {
    const auto bundle = std::ranges::find_if(kBundles, [](const char* path) { return access(path, R_OK) == 0; });
    if (bundle != std::end(kBundles)) context->load_verify_file(*bundle, error);
  }
  return context;
}

Status no_url() { return invalid("the URL must begin with http:// or https://").with_param("url"); }

}  // namespace

Result<Endpoint> parse_endpoint(const std::string& url, const TlsTrust& trust) {
  constexpr std::string_view kScheme = "http://", kTlsScheme = "https://";
  const bool is_tls = url.starts_with(kTlsScheme);
  if (!is_tls && !url.starts_with(kScheme)) return no_url();
  if (!is_tls && (trust.insecure || !trust.ca_file.empty())) {
    return invalid(trust.insecure ? "--insecure" : "--cacert", " is for https:// URLs").with_param("url");
  }
  std::string rest = url.substr(is_tls ? kTlsScheme.size() : kScheme.size());
  while (rest.ends_with('/')) rest.pop_back();
  if (rest.ends_with("/v1")) rest.resize(rest.size() - 3);
  Endpoint out;
  if (const size_t slash = rest.find('/'); slash != rest.npos) {
    out.path = rest.substr(slash);
    rest.resize(slash);
  }
  const size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  const size_t colon = bracket == rest.npos ? rest.npos : rest.find(':', bracket);
  out.host = rest.substr(0, colon);
  if (bracket > 0 && out.host.ends_with(']')) out.host = out.host.substr(1, out.host.size() - 2);
  out.port = colon == rest.npos ? (is_tls ? "443" : "80") : rest.substr(colon + 1);
  out.authority = colon == rest.npos ? cat(rest, ":", out.port) : rest;
  const bool is_number = std::ranges::all_of(out.port, [](char c) { return c >= '0' && c <= '9'; });
  if (out.host.empty() || out.port.empty() || !is_number || out.host.find_first_of("[]@") != out.host.npos) {
    return invalid("the URL names no host or port").with_param("url");
  }
  if (is_tls) {
    HEARTH_ASSIGN(out.tls, make_context(trust));
  }
  return out;
}

}  // namespace hearth
