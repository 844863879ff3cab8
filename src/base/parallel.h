#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace longspan::base {

/// Threads this process may use: the cores it is bound to.
inline int worker_threads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U));
}

/// Runs `task(0) .. task(count - 1)`, each once, on at most `threads` threads. The first exception
/// stops the handing out of tasks and is thrown here.
template <typename Task>
void parallel_for(std::int64_t count, int threads, const Task& task) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_lock;
  const auto work = [&] {
    for (std::int64_t index = next++; index < count; index = next++) {
      try {
        task(index);
      } catch (...) {
        const std::scoped_lock guard(failure_lock);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> others;
  const auto wanted = std::min<std::int64_t>(threads, count);
  for (std::int64_t thread = 1; thread < wanted; ++thread) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace longspan::base
