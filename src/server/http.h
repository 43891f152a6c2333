// HTTP as the routes see it: a request, a response, and the exchange between them. No network types in here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/body_budget.h"

namespace hearth {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// What stays of a request until its answer is complete.
struct HttpLabel {
  std::string id;             // what the client and the log call it
  std::string_view route;     // what the log says of its path
  bool is_probe = false;      // one of many that say nothing
  std::string client;         // whose share of the bytes it takes; empty: its address's
  HttpHeaders reply_headers;  // they go with every answer to it
};

struct HttpRequest {
  std::string method;
  std::string path;  // without the query
  std::string body;
  HttpHeaders headers;      // names in lower case
  BodyBudget::Share share;  // of the body's bytes
  HttpLabel label;

  std::string_view header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return {};
  }
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  HttpHeaders headers;
};

// Of ASCII letters.
inline bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

class Exchange;

// Makes an answer that takes its time. Called on the I/O thread.
class AnswerDriver {
 public:
  virtual ~AnswerDriver() = default;
  // Writes what is ready. Called after each wake(), never during a write: what a slow client has not taken yet stays
  // here, unformatted, and the connection buffers one piece only. Returns whether there is more already: then it is
  // called again after the write.
  virtual bool advance(Exchange& exchange) = 0;
  // The client is gone or the write timed out; nothing is called after it.
  virtual void gone() = 0;
  // For the log, at the end.
  struct Counts {
    int64_t prompt_tokens = 0, completion_tokens = 0;
  };
  virtual std::optional<Counts> counts() const { return std::nullopt; }
};

// One request's way back to its connection. reply(), drive() and wake() may be called from any thread; the rest by the
// driver. Each exchange ends by one reply(), by the last write(), or by the client's
// leaving.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void reply(HttpResponse response) = 0;
  virtual void drive(std::shared_ptr<AnswerDriver> driver) = 0;
  virtual void wake() = 0;
  // A streamed body: its head (`body` is ignored), then its pieces; the last may be empty.
  virtual void begin(HttpResponse head) = 0;
  virtual void write(std::string_view piece, bool last) = 0;
};

}  // namespace hearth
