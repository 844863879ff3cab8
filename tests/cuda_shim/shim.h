#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

// What stands behind the shim's cuda_platform.h, and what tests ask of it.
namespace longspan::backend::cuda::shim {

/// The order in which blocks run, and the threads of a block between two barriers. A right kernel
/// gives the same bits in each of them.
enum class Order { kAscending, kDescending, kShuffled };

/// Holds from the next launch on; `seed` tells shuffles apart.
void set_order(Order order, std::uint64_t seed = 0);

/// Launches since the program started.
std::int64_t launches();

/// What the device claims to have; cudaMalloc fails beyond it.
void set_device_memory(std::size_t bytes);

/// The error that the next cudaGetLastError gives.
void set_last_error(cudaError_t error);

struct Extent {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

struct Launch {
  const char* kernel;    ///< for messages
  const void* function;  ///< what cudaFuncSetAttribute was told about
  Extent grid;
  Extent block;
  std::size_t shared_bytes;
  const std::function<void()>& thread;  ///< what each thread does
};

/// Runs all threads of all blocks. A launch that a device would refuse runs nothing and leaves its
/// error for check_launch; what a kernel does wrong while it runs throws InternalError.
void run(const Launch& launch);

/// Dynamic shared memory that one kernel may have (48 KiB, or what it was allowed).
std::size_t allowed_shared_bytes(const void* kernel);

// --- called by kernels --------------------------------------------------------------------------
void* shared_memory();
/// Throws InternalError for an address that a device would refuse to access so.
void check_alignment(const void* address, std::size_t bytes);
void block_barrier(const std::source_location& place);
/// Whether any, and how many, of the block's threads say yes at this barrier.
int block_count(bool yes, const std::source_location& place);

enum class WarpOperation { kSynchronise, kShuffle, kBallot };
/// What one lane brings to its warp's meeting, and takes away from it.
struct WarpRequest {
  WarpOperation operation = WarpOperation::kSynchronise;
  unsigned mask = 0;
  std::uint64_t value = 0;  ///< in: the lane's own; out: the source's, or the ballot
  int source = 0;           ///< lane whose value is wanted
  std::source_location place;
};
/// Returns when all lanes of the mask have come. Returns the request's out value.
std::uint64_t meet_warp(const WarpRequest& request);
int lane_index();
unsigned live_lanes();

}  // namespace longspan::backend::cuda::shim
