// The headers of the Fetch standard's CORS protocol.
#include "server/cors.h"

#include <algorithm>

namespace hearth {
namespace {

// Names of headers with commas between them, and nothing else that could mean something in an answer.
bool is_list_of_names(std::string_view text) {
  return text.size() <= 1024 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                  c == ',' || c == ' ';
         });
}

}  // namespace

bool Cors::add_headers(HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty() || origins_.empty()) return false;
  const bool any = std::ranges::count(origins_, "*") > 0;
  HttpHeaders& headers = request.label.reply_headers;
  if (!any) headers.emplace_back("Vary", "Origin");
  if (!any && std::ranges::count(origins_, origin) == 0) return false;
  headers.emplace_back("Access-Control-Allow-Origin", any ? "*" : std::string(origin));
  headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, x-should-retry, Retry-After");
  if (request.method != "OPTIONS" || request.header("access-control-request-method").empty()) return false;
  headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST");
  const std::string_view wanted = request.header("access-control-request-headers");
  if (!wanted.empty() && is_list_of_names(wanted)) headers.emplace_back("Access-Control-Allow-Headers", wanted);
  headers.emplace_back("Access-Control-Max-Age", "600");
  return true;
}

}  // namespace hearth
