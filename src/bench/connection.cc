// TCP, then TLS: the name that is asked for is the one the certificate must bear.
#include "bench/connection.h"

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/message.hpp>
#include <stdexcept>

#include "base/cat.h"

namespace hearth {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::use_awaitable;

http::request<http::string_body> make_request(const Endpoint& endpoint, http::verb verb, const std::string& target,
                                              std::string json) {
  http::request<http::string_body> request(verb, endpoint.path + target, 11);
  request.set(http::field::host, endpoint.authority);
  request.set(http::field::connection, "close");
  if (!endpoint.api_key.empty()) request.set(http::field::authorization, "Bearer " + endpoint.api_key);
  if (verb == http::verb::post) {
    request.set(http::field::content_type, "application/json");
    request.body() = std::move(json);
    request.prepare_payload();
  }
  return request;
}

asio::awaitable<void> connect(PlainStream& stream, const Addresses& addresses, std::chrono::nanoseconds timeout) {
  stream.expires_after(timeout);
  co_await stream.async_connect(addresses, use_awaitable);
  stream.socket().set_option(asio::ip::tcp::no_delay(true));
}

asio::awaitable<void> connect(TlsStream& stream, const Endpoint& endpoint, const Addresses& addresses,
                              std::chrono::nanoseconds timeout) {
  co_await connect(stream.next_layer(), addresses, timeout);
  in6_addr ignored{};
  const bool is_address = inet_pton(AF_INET, endpoint.host.c_str(), &ignored) == 1 ||
                          inet_pton(AF_INET6, endpoint.host.c_str(), &ignored) == 1;
  SSL* const tls = stream.native_handle();
  if (is_address) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), endpoint.host.c_str());
  } else {
    SSL_set_tlsext_host_name(tls, endpoint.host.c_str());
    SSL_set1_host(tls, endpoint.host.c_str());
  }
  try {
    co_await stream.async_handshake(asio::ssl::stream_base::client, use_awaitable);
  } catch (const boost::system::system_error& error) {
    if (error.code().category() != asio::error::get_ssl_category()) throw;
    if (const long result = SSL_get_verify_result(tls); result != X509_V_OK) {
      throw std::runtime_error(cat("the server's certificate is not trusted (", X509_verify_cert_error_string(result),
                                   "); --cacert names an authority, --insecure trusts any"));
    }
    throw std::runtime_error(cat("no TLS with the server: ", error.code().message()));
  }
}

std::string words_of(const std::exception& e) {
  const auto* const error = dynamic_cast<const boost::system::system_error*>(&e);
  if (error == nullptr) return e.what();
  // Boost's own text names its source files.
  return error->code().message();
}

}  // namespace hearth
