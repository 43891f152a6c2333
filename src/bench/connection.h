// Connections to an Endpoint for coroutines, encrypted where it says https; and the head of what is asked over them.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/verb.hpp>
#include <chrono>
#include <exception>
#include <string>

#include "bench/endpoint.h"

namespace hearth {

using Addresses = boost::asio::ip::tcp::resolver::results_type;
using PlainStream = boost::beast::tcp_stream;
using TlsStream = boost::asio::ssl::stream<PlainStream>;

boost::beast::http::request<boost::beast::http::string_body> make_request(const Endpoint& endpoint,
                                                                          boost::beast::http::verb verb,
                                                                          const std::string& target,
                                                                          std::string json = {});

// Throw what words_of() puts into words; the time is for all that the stream does.
boost::asio::awaitable<void> connect(PlainStream& stream, const Addresses& addresses, std::chrono::nanoseconds timeout);
boost::asio::awaitable<void> connect(TlsStream& stream, const Endpoint& endpoint, const Addresses& addresses,
                                     std::chrono::nanoseconds timeout);
std::string words_of(const std::exception& e);

// After a read of a part of an answer. Many servers leave without TLS's goodbye: that ends an answer which nothing but
// the connection's end bounds, and no other.
template <typename Parser>
void check_read(Parser& answer, boost::system::error_code error) {
  if (error == boost::asio::ssl::error::stream_truncated) {
    error = {};
    answer.put_eof(error);
  }
  if (error && error != boost::beast::http::error::need_buffer) throw boost::system::system_error(error);
}

// `use(stream)` is a coroutine that takes either kind of stream.
template <typename Use>
boost::asio::awaitable<void> with_connection(const Endpoint& endpoint, const Addresses& addresses,
                                             std::chrono::nanoseconds timeout, const Use& use) {
  const auto executor = co_await boost::asio::this_coro::executor;
  if (endpoint.tls == nullptr) {
    PlainStream stream(executor);
    co_await connect(stream, addresses, timeout);
    co_await use(stream);
  } else {
    TlsStream stream(executor, *endpoint.tls);
    co_await connect(stream, endpoint, addresses, timeout);
    co_await use(stream);
  }
}

}  // namespace hearth
