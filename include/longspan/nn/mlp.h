#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longspan/nn/linear.h"
#include "longspan/nn/mini_sequence.h"

namespace longspan::nn {

/// What an MLP does between its projections.
enum class Activation : std::uint8_t {
  kSwiGlu,    ///< silu(gate) * up (Shazeer 2020): the up-projection is gate and up side by side
  kGeluTanh,  ///< GELU by its tanh formula (Hendrycks & Gimpel 2016), "gelu_new"
};

/// How an MLP's projections are named and stored.
struct MlpProjections {
  std::vector<std::string> up;  ///< for SwiGLU gate and up, for others one
  std::string down;
  LinearOptions up_options;
  LinearOptions down_options;
};

/// MLP: down(activation(up(x))).
///
/// Whole, it keeps the up-projection [tokens, I] (SwiGLU: [tokens, 2I]), and makes the activation
/// again in the backward. In mini-sequences it keeps nothing: the forward runs range by range, and
/// the backward makes a range's up-projection again (once; the down projection never) and finishes
/// the range before the next begins. Its memory is then a range's, whatever the number of tokens,
/// also where the block around it is recomputed.
class Mlp {
 public:
  /// I is `intermediate`.
  Mlp(ParameterSet& parameters, const MlpProjections& projections, Activation activation,
      backend::Index hidden, backend::Index intermediate,
      std::optional<MiniSequence> mini_sequence = std::nullopt);

  /// x, out [tokens, hidden]; out may be x.
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;
  /// dx, dy, x [tokens, hidden]; dx may be dy or x.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy, const backend::Tensor& x,
                Pass& pass) const;

 private:
  /// Calls visit(begin, end, projected, activated) for every range, with buffers of its rows.
  template <typename Visit>
  void in_ranges(backend::Index tokens, const Pass& pass, const Visit& visit) const;
  void forward_range(const backend::Tensor& out, const backend::Tensor& x,
                     const backend::Tensor& projected, const backend::Tensor& activated,
                     Pass& pass) const;
  void backward_range(const backend::Tensor& dx, const backend::Tensor& dy,
                      const backend::Tensor& x, const backend::Tensor& projected,
                      const backend::Tensor& activated, Pass& pass) const;

  Activation activation_;
  Linear up_;
  Linear down_;
  std::optional<MiniSequence> mini_sequence_;
};

}  // namespace longspan::nn
