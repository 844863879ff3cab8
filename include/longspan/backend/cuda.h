#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "longspan/backend/backend.h"

namespace longspan::backend {

/// A GPU of this machine, as far as it is asked for before work begins.
struct GpuInfo {
  std::string name;              ///< "NVIDIA H200"
  std::size_t total_memory = 0;  ///< bytes
};

/// GPUs that this process sees; 0 in a build without CUDA and on a machine without a driver.
int gpu_count();
/// Throws InputError when there is none of this number. Takes nothing of the GPU.
GpuInfo gpu_info(int number);
/// Bytes that nobody has taken yet. Begins to use the GPU, which takes some itself.
std::size_t free_gpu_memory(int number);

/// Largest head_dim that attention does on a GPU, by kernels of our own.
inline constexpr Index kCudaMostHeadDim = 512;

/// GPU `number`, of whose memory `memory_limit` bytes are reserved at once, in one piece:
/// `allocate` gives out parts of it and nothing else is taken while training. float64 and float32
/// (no TF32) products and attention are there for checks; bfloat16 is what it is for. Throws
/// InputError when there is no such GPU or this build has no CUDA, OutOfMemoryError when it has not
/// so much memory left.
std::unique_ptr<Backend> make_cuda_backend(int number, std::size_t memory_limit,
                                           bool deterministic = true);

/// A processor's backend whose memory is pinned, so that a GPU copies to and from it at full speed
/// and while the host does something else. Its pages are all taken at once.
std::unique_ptr<Backend> make_pinned_backend(std::size_t memory_limit);

}  // namespace longspan::backend
