#pragma once

#include <memory>

#include "backend/cuda/device.h"
#include "backend/cuda/queue.h"

// Copies between the GPU and its host, in the order of the queue's other work.
namespace longspan::backend::cuda {

/// `host` is pageable memory, which CUDA copies aside before it returns: it may be used again then.
void copy_from_host(const Queue& queue, const Tensor& out, const void* host, std::size_t bytes);
/// Done when it returns.
void copy_to_host(const Queue& queue, void* host, const Tensor& in, std::size_t bytes);

/// Between the GPU and tensors of pinned memory, on `device`'s stream of copies, dense tensors of
/// one dtype and size: see Backend::start_download.
std::unique_ptr<Transfer> start_transfer(const Device& device, const Tensor& to, const Tensor& from,
                                         cudaMemcpyKind kind);

}  // namespace longspan::backend::cuda
