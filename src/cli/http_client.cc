// A coroutine that reads, run a moment at a time, so that a signal ends a wait.
#include "cli/http_client.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>

#include "base/cat.h"
#include "bench/connection.h"

namespace hearth {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::use_awaitable;

constexpr auto kTick = std::chrono::milliseconds(50);
constexpr auto kPatience = std::chrono::hours(24);  // a person waits as long as they like

std::string reason_of(const std::exception& e) {
  const auto* const error = dynamic_cast<const boost::system::system_error*>(&e);
  if (error == nullptr) return e.what();
  const auto code = error->code();
  if (code == asio::error::connection_reset || code == asio::error::eof || code == asio::error::broken_pipe ||
      code == http::error::end_of_stream || code == http::error::partial_message) {
    return "the server closed the connection";
  }
  if (code.category() == asio::error::get_netdb_category()) return "the server's host is not known";
  const bool is_http = code.category() == make_error_code(http::error::bad_version).category();
  return is_http ? "the server's answer is not HTTP" : cat("no connection to the server: ", words_of(e));
}

}  // namespace

Result<int> HttpClient::post_json(std::string_view path, std::string_view body,
                                  const std::function<void(std::string_view)>& on_body) const {
  const auto request = make_request(endpoint_, http::verb::post, std::string(path), std::string(body));
  http::response_parser<http::buffer_body> response;
  response.body_limit(boost::none);
  const auto ask = [&](auto& stream) -> asio::awaitable<void> {
    co_await http::async_write(stream, request, use_awaitable);
    beast::flat_buffer buffer;
    co_await http::async_read_header(stream, buffer, response, use_awaitable);
    std::string piece;
    while (!response.is_done()) {
      piece.resize(16 << 10);
      response.get().body().data = piece.data();
      response.get().body().size = piece.size();
      auto [error, unused] = co_await http::async_read_some(stream, buffer, response, asio::as_tuple(use_awaitable));
      check_read(response, error);
      piece.resize(piece.size() - response.get().body().size);
      if (!piece.empty()) on_body(piece);
    }
  };
  try {
    asio::io_context io(1);
    const Addresses addresses = asio::ip::tcp::resolver(io).resolve(endpoint_.host, endpoint_.port);
    auto asked = asio::co_spawn(io, with_connection(endpoint_, addresses, kPatience, ask), asio::use_future);
    while (io.run_for(kTick), !io.stopped()) {
      if (stop_()) return Status(Code::kCancelled, "stopped");
    }
    asked.get();
  } catch (const std::exception& e) {
    return Status(Code::kUnavailable, reason_of(e));
  }
  return static_cast<int>(response.get().result_int());
}

}  // namespace hearth
