#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::comm {

/// Host memory that is used again: a step asks for the same sizes as the one before. Kept as long
/// as a tensor of it lives. Not thread-safe.
class HostBuffers {
 public:
  /// A tensor in host memory, of the same dtype and number of elements as this vector.
  backend::Tensor like(const backend::Tensor& vector);

 private:
  struct Block {
    std::unique_ptr<std::byte[]> memory;
    std::size_t bytes = 0;
  };
  class Lease;
  using Free = std::vector<Block>;
  std::shared_ptr<Free> free_ = std::make_shared<Free>();
};

/// What a library that knows only the host's memory may read and write in the place of an
/// operation's tensors. They stand for themselves where they lie in the host's memory; those of a
/// device have copies. Must outlive the requests that use the copies.
class Staging {
 public:
  Staging(backend::Backend& backend, HostBuffers& buffers)
      : backend_(&backend), buffers_(&buffers), is_device_(backend.streams() != nullptr) {}

  /// Holds what `vector` holds now.
  backend::Tensor outgoing(const backend::Tensor& vector);
  /// Is written to; `deliver` brings it to `vector`.
  backend::Tensor incoming(const backend::Tensor& vector);
  /// All that has come goes to its tensors, once.
  void deliver();

 private:
  backend::Backend* backend_;
  HostBuffers* buffers_;
  bool is_device_;
  /// Copies and what they stand for; `outgoing` ones only live here.
  std::vector<backend::Tensor> sent_;
  std::vector<std::pair<backend::Tensor, backend::Tensor>> coming_;
};

}  // namespace longspan::comm
