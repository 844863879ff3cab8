#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

// Queues of a device as CUDA has them, for tests without one: each works on its own thread, with
// random pauses, so that an operation which forgot to wait for another meets unfinished data.
namespace longspan::testing {

/// Knows the state at its last record, as a cudaEvent_t does.
class FakeEvent {
 public:
  bool is_done() const;

 private:
  friend class FakeStream;
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t recorded = 0;
    std::uint64_t done = 0;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class FakeStream {
 public:
  explicit FakeStream(unsigned seed);
  ~FakeStream();
  FakeStream(const FakeStream&) = delete;
  FakeStream& operator=(const FakeStream&) = delete;

  using Clock = std::chrono::steady_clock;

  void push(std::function<void()> work) { push({std::move(work), true}); }
  /// When it is passed, `*passed` becomes the moment when the work before it was done, or when it
  /// was given where there was none left: as a GPU takes the time, whatever the host's threads do.
  void mark(std::shared_ptr<Clock::time_point> passed);
  void record(FakeEvent& event);
  /// What is pushed from now on waits for the event's last record.
  void wait_for(FakeEvent& event);
  /// The host waits until all is done.
  void synchronize();

 private:
  struct Item {
    std::function<void()> run;
    bool is_work = true;  ///< takes time of the device
  };
  void push(Item item);
  void work();

  Clock::time_point last_end_;  // of work; the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;
  bool busy_ = false;
  bool over_ = false;
  std::minstd_rand random_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace longspan::testing
