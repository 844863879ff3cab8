#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/model/decoder.h"
#include "longspan/optim/optimizer.h"

namespace longspan::train {

using optim::StateTensor;

/// The weights, a tensor for each parameter, under its name.
std::vector<StateTensor> weights_of(const nn::ParameterSet& parameters, backend::Backend& backend);

/// Gives elements [first, first + count) of a state's whole, in its dtype.
using ReadElements = std::function<void(backend::Index first, backend::Index count, void* out)>;
/// Fills what this rank holds of a state, piece by piece, so that a piece is all that is there
/// twice.
void load_state(const StateTensor& state, const nn::ParameterSet& parameters,
                const ReadElements& read);

/// Where a parameter's numbers are stored, and how: `read` copies bytes [first, first + bytes) of
/// them.
struct StoredNumbers {
  base::DType dtype;
  std::function<void(std::uint64_t first, std::uint64_t bytes, void* out)> read;
};
/// The same of states that each are as many numbers as their parameter, out of numbers of any float
/// dtype.
void load_converted(const std::vector<StateTensor>& states, const nn::ParameterSet& parameters,
                    const std::function<StoredNumbers(const nn::Parameter&)>& find);

/// The same of the weights of a set that packs.
void load_packed(nn::ParameterSet& parameters, backend::Backend& backend,
                 const std::function<StoredNumbers(const nn::Parameter&)>& find);

/// Lets rank 0 read states of which every rank holds a part, range by range, so that nothing is
/// ever whole anywhere. What rank 0 holds itself is read without the others.
class StateReader {
 public:
  /// Of the weights, then of the optimizer's states. All must outlive this.
  StateReader(const nn::ParameterSet& parameters, const optim::Optimizer& optimizer,
              backend::Backend& backend, comm::Communicator& world);

  const std::vector<StateTensor>& states() const { return states_; }
  /// Called by every rank: runs `action` on rank 0, which may `read`, while the others answer until
  /// it is done. If it throws an Error, every rank throws it, agreed.
  void run(const std::function<void()>& action);
  /// Only from the action: copies elements [first, first + count) of a state to host memory.
  void read(std::size_t state, backend::Index first, backend::Index count, void* out);

 private:
  struct Request;
  void finish();
  void serve();
  void exchange(const Request& request, const backend::Tensor& received);

  const nn::ParameterSet* parameters_;
  comm::Communicator* world_;
  std::vector<StateTensor> states_;
};

}  // namespace longspan::train
