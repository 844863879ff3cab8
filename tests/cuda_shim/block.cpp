#include "tests/cuda_shim/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "longspan/base/error.h"
#include "tests/cuda_shim/cuda_platform.h"

namespace longspan::backend::cuda::shim {
namespace {

/// A NaN in every float dtype, and no plausible index.
constexpr int kUnwritten = 0xFF;
/// Behind a block's shared memory; the address sanitizer has its own.
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kGuardBytes = 0;
#else
constexpr std::size_t kGuardBytes = 64;
#endif
constexpr std::byte kGuard{0x5C};

std::string place_text(const std::source_location& place) {
  const std::string file = place.file_name();
  return fmt::format("{}:{}", file.substr(file.find_last_of('/') + 1), place.line());
}

void set_thread_index(int thread) {
  const auto number = static_cast<unsigned>(thread);
  threadIdx = {number % blockDim.x, number / blockDim.x % blockDim.y,
               number / (blockDim.x * blockDim.y)};
}

}  // namespace

std::vector<int> in_order(int begin, int end, Order order, std::mt19937_64* shuffle) {
  std::vector<int> list(static_cast<std::size_t>(end - begin));
  std::iota(list.begin(), list.end(), begin);
  if (order == Order::kDescending) std::reverse(list.begin(), list.end());
  if (shuffle != nullptr) std::shuffle(list.begin(), list.end(), *shuffle);
  return list;
}

Fibre* FibrePool::take() {
  if (idle_.empty()) {
    all_.push_back(std::make_unique<Fibre>(main_));
    return all_.back().get();
  }
  Fibre* fibre = idle_.back();
  idle_.pop_back();
  return fibre;
}

void FibrePool::forget_all() {
  idle_.clear();
  all_.clear();
}

Block::Block(const Launch& launch, FibrePool& fibres, Order order, std::mt19937_64* shuffle)
    : launch_(launch),
      fibres_(fibres),
      order_(order),
      shuffle_(shuffle),
      threads_(std::size_t{launch.block.x} * launch.block.y * launch.block.z),
      shared_(std::make_unique_for_overwrite<std::byte[]>(launch.shared_bytes + kGuardBytes)) {
  std::memset(shared_.get(), kUnwritten, launch.shared_bytes);
  std::memset(shared_.get() + launch.shared_bytes, static_cast<int>(kGuard), kGuardBytes);
}

void Block::run() {
  try {
    do {
      run_warps();
    } while (release_barrier());
    if (!all_done()) throw base::InternalError(stuck());
  } catch (...) {
    fibres_.forget_all();  // some hold frames of threads that will not go on
    throw;
  }
  check_shared_bounds();
}

/// Each warp until none of its lanes can go on.
void Block::run_warps() {
  const int count = static_cast<int>(threads_.size());
  for (const int warp : in_order(0, (count + kWarp - 1) / kWarp, order_, shuffle_)) {
    do {
      turns_ = in_order(warp * kWarp, std::min(count, (warp + 1) * kWarp), order_, shuffle_);
      position_ = 0;
      give_way(fibres_.caller());
      if (failure_) std::rethrow_exception(failure_);
    } while (release_warp(warp));
  }
}

bool Block::can_go(int thread) const {
  const State state = threads_[static_cast<std::size_t>(thread)].state;
  return state == State::kNew || state == State::kReady;
}

/// -1 when no other lane of the warp can go on, or something went wrong.
int Block::next_thread() {
  if (failure_) return -1;
  while (position_ < turns_.size()) {
    const int thread = turns_[position_++];
    if (can_go(thread)) return thread;
  }
  return -1;
}

/// Lets the next lane of the warp run, or who launched; returns when it is `from`'s turn again,
/// which may be at once. A fibre that was idle may come back in another block: nothing of this one
/// is touched after the switch.
void Block::give_way(Fibre& from) {
  const int next = next_thread();
  current_ = next;
  if (next < 0) {
    if (&from != &fibres_.caller()) from.switch_to(fibres_.caller());
    return;
  }
  set_thread_index(next);
  Thread& thread = threads_[static_cast<std::size_t>(next)];
  if (thread.fibre == nullptr) thread.fibre = fibres_.take();
  if (thread.fibre != &from) from.switch_to(*thread.fibre);
}

void Block::run_thread() {
  Thread& thread = threads_[static_cast<std::size_t>(current_)];
  Fibre& fibre = *thread.fibre;
  try {
    launch_.thread();
  } catch (...) {
    failure_ = std::current_exception();
  }
  thread.state = State::kDone;
  fibres_.give_back(&fibre);  // the next new thread may run right here
  give_way(fibre);
}

int Block::block_barrier(bool yes, const std::source_location& place) {
  Thread& thread = threads_[static_cast<std::size_t>(current_)];
  thread.state = State::kAtBarrier;
  thread.yes = yes;
  thread.place = place;
  give_way(*thread.fibre);
  return barrier_count_;
}

std::uint64_t Block::meet_warp(const WarpRequest& request) {
  Thread& thread = threads_[static_cast<std::size_t>(current_)];
  if ((request.mask >> static_cast<unsigned>(current_ % kWarp) & 1U) == 0) {
    throw base::InternalError(
        fmt::format("thread {} is not in the mask {:#x} that it gives", current_, request.mask));
  }
  thread.state = State::kAtWarp;
  thread.request = request;
  thread.place = request.place;
  give_way(*thread.fibre);
  return thread.request.value;
}

unsigned Block::live_lanes() const {
  const std::size_t begin = static_cast<std::size_t>(current_ / kWarp * kWarp);
  unsigned lanes = 0;
  for (std::size_t i = begin; i < std::min(begin + kWarp, threads_.size()); ++i) {
    if (threads_[i].state != State::kDone) lanes |= 1U << (i - begin);
  }
  return lanes;
}

bool Block::all_done() const {
  return std::all_of(threads_.begin(), threads_.end(),
                     [](const Thread& one) { return one.state == State::kDone; });
}

/// All threads that are not done must wait at one and the same barrier.
bool Block::release_barrier() {
  int yes = 0;
  const Thread* first = nullptr;
  for (const Thread& one : threads_) {
    if (one.state == State::kDone) continue;
    if (one.state != State::kAtBarrier) return false;
    if (first == nullptr) first = &one;
    const bool same = one.place.line() == first->place.line() &&
                      std::strcmp(one.place.file_name(), first->place.file_name()) == 0;
    if (!same) throw base::InternalError(stuck());
    yes += one.yes ? 1 : 0;
  }
  if (first == nullptr) return false;
  barrier_count_ = yes;
  for (Thread& one : threads_) {
    if (one.state == State::kAtBarrier) one.state = State::kReady;
  }
  return true;
}

bool Block::release_warp(int warp) {
  const std::size_t begin = static_cast<std::size_t>(warp) * kWarp;
  bool released = false;
  for (std::size_t i = begin; i < std::min(begin + kWarp, threads_.size()); ++i) {
    if (threads_[i].state == State::kAtWarp && release_lanes(i)) released = true;
  }
  return released;
}

/// Lets the lanes go on that this thread's mask names, when all of them have come.
bool Block::release_lanes(std::size_t thread) {
  const std::size_t begin = thread / kWarp * kWarp;
  const WarpRequest wanted = threads_[thread].request;
  std::uint64_t values[kWarp] = {};
  std::uint64_t ballot = 0;
  for (std::size_t lane = 0; lane < kWarp; ++lane) {
    if ((wanted.mask >> lane & 1U) == 0) continue;
    if (begin + lane >= threads_.size() || threads_[begin + lane].state == State::kDone) {
      throw base::InternalError(
          fmt::format("thread {} waits at {} for lane {} of its warp, which has ended or never was",
                      thread, place_text(wanted.place), lane));
    }
    const Thread& other = threads_[begin + lane];
    if (other.state != State::kAtWarp || other.request.mask != wanted.mask) return false;
    if (other.request.operation != wanted.operation) throw base::InternalError(stuck());
    values[lane] = other.request.value;
    if (other.request.value != 0) ballot |= std::uint64_t{1} << lane;
  }
  for (std::size_t lane = 0; lane < kWarp; ++lane) {
    if ((wanted.mask >> lane & 1U) == 0) continue;
    Thread& one = threads_[begin + lane];
    one.state = State::kReady;
    const auto source = static_cast<unsigned>(one.request.source);
    if (wanted.operation == WarpOperation::kBallot) one.request.value = ballot;
    if (wanted.operation != WarpOperation::kShuffle) continue;
    if (source >= kWarp || (wanted.mask >> source & 1U) == 0) {
      throw base::InternalError(fmt::format("thread {} reads at {} from lane {}, not in its mask",
                                            begin + lane, place_text(wanted.place), source));
    }
    one.request.value = values[source];
  }
  return true;
}

/// Who waits where, for the message.
std::string Block::stuck() const {
  std::map<std::string, std::pair<std::size_t, std::size_t>>
      places;  // to the first and their count
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    const Thread& one = threads_[i];
    if (one.state == State::kDone) continue;
    const char* what = one.state == State::kAtBarrier ? "barrier" : "warp operation";
    auto [found, fresh] =
        places.try_emplace(fmt::format("{} {}", what, place_text(one.place)), i, 0);
    ++found->second.second;
  }
  std::string text = "not all live threads reach one barrier:";
  for (const auto& [place, who] : places) {
    text += fmt::format(" {} wait at {} (thread {} first);", who.second, place, who.first);
  }
  text.pop_back();
  return text;
}

void Block::check_shared_bounds() const {
  const std::byte* guard = shared_.get() + launch_.shared_bytes;
  if (!std::all_of(guard, guard + kGuardBytes, [](std::byte one) { return one == kGuard; })) {
    throw base::InternalError(
        fmt::format("wrote beyond its {} bytes of shared memory", launch_.shared_bytes));
  }
}

}  // namespace longspan::backend::cuda::shim
