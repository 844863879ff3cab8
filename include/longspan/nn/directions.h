#pragma once

#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"

namespace longspan::nn {

/// The directions along which gradients are compressed (VeLoRA, Miles et al. 2024): for layers that
/// say so, vectors v of length m, which divides the layer's inputs. Each is the mean of the groups
/// of m neighbours of what the layer read in a step of its own, over all tokens of all ranks,
/// brought to norm 1; then it stays. Where that mean is 0 its elements are all equal.
class Directions {
 public:
  /// One more, before `allocate`; returns its number.
  int declare(backend::Index length, backend::Index inputs);
  int count() const { return static_cast<int>(of_.size()); }
  backend::Index length(int number) const { return at(number).length; }

  /// All 0, in `dtype`, float32 (float64); and room for sums of inputs.
  void allocate(backend::Backend& backend, base::DType dtype);
  backend::Tensor of(int number) const;  // [length]
  /// Whether they are what they stay: found, or read, which the reader says.
  bool are_there() const { return are_there_; }
  void set_there() { are_there_ = true; }

  /// From here to `settle` layers tell what they read, instead of compressing with it.
  void find();
  bool is_finding() const { return is_finding_; }
  void add(int number, const backend::Tensor& x) const;  // [tokens, inputs]
  /// Throws InputError, on all ranks, where what they told is not finite.
  void settle(comm::Communicator& ranks);
  /// Throws InternalError unless all ranks have the same bits.
  void check(comm::Communicator& ranks) const;

 private:
  struct One {
    backend::Index length = 0;
    backend::Index inputs = 0;
    backend::Index begin = 0;       ///< among all
    backend::Index sums_begin = 0;  ///< among all inputs
  };
  const One& at(int number) const { return of_[static_cast<std::size_t>(number)]; }

  std::vector<One> of_;
  backend::Index elements_ = 0;
  backend::Index inputs_ = 0;
  backend::Backend* backend_ = nullptr;
  backend::Tensor values_;
  backend::Tensor sums_;  ///< of inputs over tokens, one layer's behind the other's
  bool is_finding_ = false;
  bool are_there_ = false;
};

}  // namespace longspan::nn
