// An OpenAI-compatible server that a client here asks: where it is, and whom to trust there.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"

namespace boost::asio::ssl {
class context;
}

namespace hearth {

// Of an https:// URL. By default the system's authorities; SSL_CERT_FILE and SSL_CERT_DIR name others.
struct TlsTrust {
  std::string ca_file;    // PEM; in place of them
  bool insecure = false;  // any certificate will do
};

struct Endpoint {
  std::string host, port, path;  // host: of an IPv6 address without brackets; path: prefix before /v1, usually empty
  std::string authority;         // as the Host header says it
  std::string model, api_key;
  std::shared_ptr<boost::asio::ssl::context> tls;  // null: http
};

// "http://host:port[/prefix]", or https.
Result<Endpoint> parse_endpoint(const std::string& url, const TlsTrust& trust = {});

}  // namespace hearth
