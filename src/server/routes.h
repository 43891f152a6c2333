// Routes: which path does what. Generation and tokenizing go to a pool of workers; the rest is answered at once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api/serving.h"
#include "server/api_keys.h"
#include "server/call_queue.h"
#include "server/cors.h"
#include "server/http.h"
#include "server/metrics.h"

namespace hearth {

class Routes {
 public:
  Routes(ApiKeys keys, Cors cors, int64_t num_workers);
  ~Routes();

  // HttpServer's gate: who may ask, and whether there is such a thing to ask for.
  std::optional<HttpResponse> admit(HttpRequest& request);
  // And its handler, of what was admitted.
  void handle(HttpRequest&& request, std::shared_ptr<Exchange> exchange);
  // Until then everything that needs the model is a 503. Both outlive the routes.
  void set_model(const Serving& serving, const Metrics& metrics);
  // In place of those there are, for requests to come. From any thread.
  void use_keys(ApiKeys keys);
  // The readiness probe turns 503, and so do new calls of the API.
  void set_draining() { draining_ = true; }
  // Calls that wait for a worker or are with one have so long to be dealt with; then those that wait get a 503. Returns
  // whether no call is left.
  bool finish_calls(Duration timeout);

 private:
  struct Call {
    HttpRequest request;
    std::shared_ptr<Exchange> exchange;
    const Serving* serving = nullptr;
    std::function<void(Call&)> work;  // on a worker
  };
  struct Route {
    std::string_view path, method;
    bool open;  // needs no key
    bool needs_model;
    void (Routes::*run)(Call&&);
  };
  static const Route kRoutes[];
  static const Route* find(std::string_view path);  // null: none
  static const char* why_not_found(std::string_view path);

  void health(Call&& call);
  void live(Call&& call);
  void ready(Call&& call);
  void page(Call&& call);
  void version(Call&& call);
  void metrics(Call&& call);
  void models(Call&& call);
  void one_model(Call&& call);
  void completions(Call&& call);
  void chat(Call&& call);
  void messages(Call&& call);
  void count_tokens(Call&& call);
  void responses(Call&& call);
  void tokenize(Call&& call);
  void detokenize(Call&& call);
  void tokenizer_info(Call&& call);
  void server_info(Call&& call);
  void model_info(Call&& call);
  void render_completions(Call&& call);
  void render_chat(Call&& call);

  using Start = Serving::OrError<std::shared_ptr<Answer>> (Serving::*)(std::string_view, const CallTimes&,
                                                                       Serving::Wake) const;
  using Make = Serving::OrError<std::string> (Serving::*)(std::string_view) const;
  void generate(Call&& call, Start start);
  void make(Call&& call, Make make);
  // On a worker; refuses the call when all are busy and the queue is full.
  void on_worker(Call&& call, std::function<void(Call&)> work);
  static void run_call(Call& call);
  void run_calls(bool take_large);

  std::mutex keys_mutex_;
  ApiKeys keys_;
  const Cors cors_;
  std::atomic<const Serving*> serving_ = nullptr;
  std::atomic<const Metrics*> metrics_ = nullptr;
  std::atomic<bool> draining_ = false;
  CallQueue<Call> calls_;
  std::vector<std::thread> workers_;
};

}  // namespace hearth
