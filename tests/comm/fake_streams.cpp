#include "tests/comm/fake_streams.h"

#include <algorithm>

namespace longspan::testing {

bool FakeEvent::is_done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->done == state_->recorded;
}

FakeStream::FakeStream(unsigned seed) : random_(seed), thread_([this] { work(); }) {}

FakeStream::~FakeStream() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeStream::push(Item item) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
  }
  changed_.notify_all();
}

void FakeStream::record(FakeEvent& event) {
  std::uint64_t ticket = 0;
  {
    const std::lock_guard lock(event.state_->mutex);
    ticket = ++event.state_->recorded;
  }
  const auto run = [state = event.state_, ticket] {
    const std::lock_guard lock(state->mutex);
    state->done = ticket;
    state->changed.notify_all();
  };
  push({run, /*is_work=*/false});
}

void FakeStream::wait_for(FakeEvent& event) {
  std::uint64_t ticket = 0;
  {
    const std::lock_guard lock(event.state_->mutex);
    ticket = event.state_->recorded;
  }
  push([state = event.state_, ticket] {
    std::unique_lock lock(state->mutex);
    state->changed.wait(lock, [&] { return state->done >= ticket; });
  });
}

void FakeStream::mark(std::shared_ptr<Clock::time_point> passed) {
  const auto run = [this, passed = std::move(passed), given = Clock::now()] {
    *passed = std::max(given, last_end_);
  };
  push({run, /*is_work=*/false});
}

void FakeStream::synchronize() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
}

void FakeStream::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return over_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Item next = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 300));
    next.run();
    if (next.is_work) last_end_ = Clock::now();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace longspan::testing
