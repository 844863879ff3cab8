#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/model/decoder.h"
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
std::vector<State> states_of(const optim::AdamW& optimizer);

/// The master weights alone, of an optimizer that saves them.
State master_of(const optim::AdamW& optimizer);

/// Gives numbers [first, first + count) of a parameter, in the dtype of the state.
using ReadNumbers = std::function<void(const nn::Parameter& parameter, backend::Index first,
                                       backend::Index count, void* out)>;
/// Fills what this rank holds of a state, piece by piece, so that a piece is all that is there
/// twice.
void load_state(const State& state, const nn::ParameterSet& parameters, const ReadNumbers& read);

/// Lets rank 0 read states of which every rank holds a part, range by range, so that nothing is
/// ever whole anywhere. What rank 0 holds itself is read without the others.
class StateReader {
 public:
  /// Of the weights, then `states_of`. All must outlive this.
  StateReader(const nn::ParameterSet& parameters, const optim::AdamW& optimizer,
              backend::Backend& backend, comm::Communicator& world);

  const std::vector<State>& states() const { return states_; }
  /// Called by every rank: runs `action` on rank 0, which may `read`, while the others answer until
  /// it is done. If it throws an Error, every rank throws it, agreed.
  void run(const std::function<void()>& action);
  /// Only from the action: copies elements [first, first + count) of a parameter to host memory.
  void read(std::size_t state, int number, backend::Index first, backend::Index count, void* out);

 private:
  struct Request;
  void finish();
  void serve();
  void exchange(const Request& request, const backend::Tensor& received);

  const nn::ParameterSet* parameters_;
  comm::Communicator* world_;
  std::vector<State> states_;
};

}  // namespace longspan::train
