// Sums under a mutex; a client is forgotten with its last share.
#include "server/body_budget.h"

namespace hearth {

BodyBudget::Share BodyBudget::share(const std::string& client) {
  std::lock_guard lock(mutex_);
  Share out;
  out.client_ = &*clients_.try_emplace(client).first;
  out.budget_ = this;
  ++out.client_->second.shares;
  return out;
}

int64_t BodyBudget::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

BodyBudget::Verdict BodyBudget::check(const Client& client, int64_t from, int64_t to) const {
  const auto most = [&](int64_t limit) { return to > kSmallRequestBytes ? largest(limit) : limit; };
  if (to <= from) return Verdict::kFits;
  if (client.second.bytes + to - from > most(per_client_)) return Verdict::kClientFull;
  return bytes_ + to - from > most(total_) ? Verdict::kServerFull : Verdict::kFits;
}

BodyBudget::Share& BodyBudget::Share::operator=(Share&& other) noexcept {
  if (this == &other) return *this;
  release();
  budget_ = std::exchange(other.budget_, nullptr);
  client_ = std::exchange(other.client_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

BodyBudget::Verdict BodyBudget::Share::check(int64_t bytes) const {
  std::lock_guard lock(budget_->mutex_);
  return budget_->check(*client_, bytes_, bytes);
}

BodyBudget::Verdict BodyBudget::Share::resize(int64_t bytes) {
  if (bytes == bytes_) return Verdict::kFits;
  std::lock_guard lock(budget_->mutex_);
  const Verdict verdict = budget_->check(*client_, bytes_, bytes);
  if (verdict != Verdict::kFits) return verdict;
  budget_->bytes_ += bytes - bytes_;
  client_->second.bytes += bytes - bytes_;
  bytes_ = bytes;
  return verdict;
}

void BodyBudget::Share::release() {
  if (budget_ == nullptr) return;
  std::lock_guard lock(budget_->mutex_);
  budget_->bytes_ -= bytes_;
  client_->second.bytes -= bytes_;
  if (--client_->second.shares == 0) budget_->clients_.erase(client_->first);
  budget_ = nullptr;
}

}  // namespace hearth
