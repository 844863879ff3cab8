#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"

// What the tests of collectives run on: communicator_test.cpp is part of several programs, each of
// which says what its benches are.
namespace longspan::testing {

struct Bench {
  std::string name;
  std::function<std::unique_ptr<backend::Backend>()> make_backend;
  comm::Communicator* world;
  bool sums_in_rank_order;
};

const std::vector<Bench>& benches();

/// A new vector that holds these values.
template <typename T>
backend::Tensor vector_of(backend::Backend& backend, const std::vector<T>& values,
                          base::DType dtype,
                          backend::MemoryTag tag = backend::MemoryTag::kGradients) {
  const auto tensor = backend.allocate({static_cast<backend::Index>(values.size())}, dtype, tag);
  backend.copy_from_host(tensor, values.data(), tensor.bytes());
  return tensor;
}

template <typename T>
std::vector<T> values_of(backend::Backend& backend, const backend::Tensor& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.elements()));
  backend.copy_to_host(values.data(), tensor, tensor.bytes());
  return values;
}

}  // namespace longspan::testing
