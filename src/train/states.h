#pragma once

#include <cstddef>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/model/llama.h"
#include "longspan/optim/adamw.h"

namespace longspan::train {

/// One of the flat tensors that a checkpoint holds, named parameter by parameter.
struct State {
  const char* prefix;       ///< of its tensors' names; "" for the weights
  backend::Tensor storage;  ///< rank 1: the whole axis of the parameters, or own elements alone
  bool is_split;            ///< which of the two
  backend::Backend* backend;
};

State weights_of(const nn::ParameterSet& parameters, backend::Backend& backend);
/// Moments and, where one is saved, the master weights: in the same order on every rank.
std::vector<State> states_of(const optim::AdamW& optimizer, backend::Backend& backend);

/// Lets one rank read states of which every rank holds a part: rank 0 reads, range by range, while
/// the others answer in `serve`, until `finish`. What rank 0 holds itself is read without them.
class StateReader {
 public:
  /// Of the weights, then `states_of`. All must outlive this.
  StateReader(const nn::ParameterSet& parameters, const optim::AdamW& optimizer,
              backend::Backend& backend, comm::Communicator& world);

  const std::vector<State>& states() const { return states_; }
  /// Rank 0: copies elements [first, first + count) of a parameter to host memory.
  void read(std::size_t state, int number, backend::Index first, backend::Index count, void* out);
  /// Rank 0, once, whether the reading went well or not.
  void finish();
  /// Every other rank: returns after rank 0 has finished.
  void serve();

 private:
  struct Request;
  void exchange(const Request& request, const backend::Tensor& received);

  const nn::ParameterSet* parameters_;
  comm::Communicator* world_;
  std::vector<State> states_;
};

}  // namespace longspan::train
