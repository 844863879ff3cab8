#include <fmt/format.h>

#include "longspan/base/error.h"
#include "tests/cuda_shim/block.h"
#include "tests/cuda_shim/cuda_platform.h"

uint3 threadIdx{};
uint3 blockIdx{};
dim3 blockDim;
dim3 gridDim;

namespace longspan::backend::cuda::shim {
namespace {

// Limits of every device of compute capability 5 and more.
constexpr std::uint64_t kMostThreads = 1024;
constexpr unsigned kMostBlockDepth = 64;
constexpr unsigned kMostGridX = 0x7fffffffU;
constexpr unsigned kMostGridYZ = 65535;

struct Settings {
  Order order = Order::kAscending;
  std::uint64_t seed = 0;
  std::int64_t launches = 0;
  Block* block = nullptr;  // that runs
};

Settings& settings() {
  static Settings one;
  return one;
}

Block& running() {
  if (settings().block == nullptr) throw base::InternalError("shim: no kernel runs");
  return *settings().block;
}

void fibre_main() {
  Fibre::started();
  for (;;) settings().block->run_thread();
}

bool refused(const Launch& launch) {
  const Extent& grid = launch.grid;
  const Extent& block = launch.block;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const bool empty = threads == 0 || grid.x == 0 || grid.y == 0 || grid.z == 0;
  const bool large = block.x > kMostThreads || block.y > kMostThreads ||
                     block.z > kMostBlockDepth || threads > kMostThreads || grid.x > kMostGridX ||
                     grid.y > kMostGridYZ || grid.z > kMostGridYZ;
  if (empty || large) {
    set_last_error(cudaErrorInvalidConfiguration);
    return true;
  }
  if (launch.shared_bytes > allowed_shared_bytes(launch.function)) {
    set_last_error(cudaErrorInvalidValue);
    return true;
  }
  return false;
}

void run_block(const Launch& launch, int number, FibrePool& fibres, std::mt19937_64* shuffle) {
  const auto index = static_cast<unsigned>(number);
  blockIdx = {index % gridDim.x, index / gridDim.x % gridDim.y, index / (gridDim.x * gridDim.y)};
  Block block(launch, fibres, settings().order, shuffle);
  settings().block = &block;
  try {
    block.run();
  } catch (const std::exception& error) {
    settings().block = nullptr;
    throw base::InternalError(fmt::format("{}, block ({}, {}, {}): {}", launch.kernel, blockIdx.x,
                                          blockIdx.y, blockIdx.z, error.what()));
  }
  settings().block = nullptr;
}

}  // namespace

void set_order(Order order, std::uint64_t seed) {
  settings().order = order;
  settings().seed = seed;
}

std::int64_t launches() { return settings().launches; }

void run(const Launch& launch) {
  ++settings().launches;
  if (refused(launch)) return;
  if (settings().block != nullptr) throw base::InternalError("shim: a kernel launches a kernel");
  static FibrePool fibres(fibre_main);
  gridDim = {launch.grid.x, launch.grid.y, launch.grid.z};
  blockDim = {launch.block.x, launch.block.y, launch.block.z};
  const Order order = settings().order;
  std::mt19937_64 generator(settings().seed);
  std::mt19937_64* shuffle = order == Order::kShuffled ? &generator : nullptr;
  const auto blocks = static_cast<int>(gridDim.x * gridDim.y * gridDim.z);
  for (const int number : in_order(0, blocks, order, shuffle)) {
    run_block(launch, number, fibres, shuffle);
  }
}

void* shared_memory() { return running().shared_memory(); }
void check_alignment(const void* address, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes == 0) return;
  throw base::InternalError(fmt::format("thread {} accesses {} bytes at {}, misaligned",
                                        running().thread(), bytes, address));
}
void block_barrier(const std::source_location& place) { running().block_barrier(false, place); }
int block_count(bool yes, const std::source_location& place) {
  return running().block_barrier(yes, place);
}
std::uint64_t meet_warp(const WarpRequest& request) { return running().meet_warp(request); }
int lane_index() { return running().thread() % kWarp; }
unsigned live_lanes() { return running().live_lanes(); }

}  // namespace longspan::backend::cuda::shim
