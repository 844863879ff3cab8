#pragma once

#include <exception>
#include <memory>
#include <random>
#include <vector>

#include "tests/cuda_shim/fibre.h"
#include "tests/cuda_shim/shim.h"

namespace longspan::backend::cuda::shim {

inline constexpr int kWarp = 32;

/// begin to end - 1 in the order; shuffled where there is a generator.
std::vector<int> in_order(int begin, int end, Order order, std::mt19937_64* shuffle);

/// Stacks are kept from block to block; those of a kernel that went wrong are not.
class FibrePool {
 public:
  explicit FibrePool(void (*main)()) : main_(main) {}
  Fibre* take();
  void give_back(Fibre* fibre) { idle_.push_back(fibre); }
  void forget_all();
  /// The stack of who launches.
  Fibre& caller() { return caller_; }

 private:
  void (*main_)();
  Fibre caller_;
  std::vector<std::unique_ptr<Fibre>> all_;
  std::vector<Fibre*> idle_;
};

/// Runs the threads of one block. Between two barriers each warp goes as far as it can before the
/// next one starts, and within a warp each lane between two warp operations: so what one does
/// without waiting for another is done before, or after, all that the other does.
class Block {
 public:
  /// With a generator the order is shuffled anew whenever one is needed.
  Block(const Launch& launch, FibrePool& fibres, Order order, std::mt19937_64* shuffle);

  /// Throws what a thread threw, or InternalError where threads wait for what never comes.
  void run();

  // --- called by the thread that runs ---
  int thread() const { return current_; }
  int block_barrier(bool yes, const std::source_location& place);
  std::uint64_t meet_warp(const WarpRequest& request);
  unsigned live_lanes() const;
  void* shared_memory() { return shared_.get(); }
  /// Runs the thread whose turn it is to its end; returns when this fibre has another one to run,
  /// which may be another block's.
  void run_thread();

 private:
  enum class State { kNew, kReady, kAtBarrier, kAtWarp, kDone };
  struct Thread {
    State state = State::kNew;
    Fibre* fibre = nullptr;
    bool yes = false;  // at a block's barrier; what it counts then
    WarpRequest request;
    std::source_location place;
  };

  bool can_go(int thread) const;
  int next_thread();
  void give_way(Fibre& from);
  void run_warps();
  bool all_done() const;
  bool release_barrier();
  bool release_warp(int warp);
  bool release_lanes(std::size_t thread);
  std::string stuck() const;
  void check_shared_bounds() const;

  const Launch& launch_;
  FibrePool& fibres_;
  Order order_;
  std::mt19937_64* shuffle_;
  std::vector<Thread> threads_;
  std::unique_ptr<std::byte[]> shared_;
  std::vector<int> turns_;    // threads of the warp that runs
  std::size_t position_ = 0;  // in turns_
  int current_ = -1;
  int barrier_count_ = 0;
  std::exception_ptr failure_;
};

}  // namespace longspan::backend::cuda::shim
