#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/nn/linear.h"
#include "longspan/nn/mini_sequence.h"
#include "longspan/nn/rms_norm.h"

namespace longspan::nn {

/// What an MLP does between its projections.
enum class Activation : std::uint8_t {
  kSwiGlu,     ///< silu(gate) * up (Shazeer 2020): the up-projection is gate and up side by side
  kGeGluTanh,  ///< the same with GELU by its tanh formula as the gate's function
  kGeluTanh,   ///< GELU by its tanh formula (Hendrycks & Gimpel 2016), "gelu_new"
};

/// How an MLP's projections are named and stored, and which norm goes with them.
struct MlpProjections {
  std::vector<std::string> up;  ///< gate and up (or both in one), or, without a gate, one
  std::string down;
  LinearOptions up_options;
  LinearOptions down_options;
  std::string output_norm = {};  ///< an RMS norm of what the down-projection gives; empty: none
  backend::RmsNormOptions norm_options = {};
};

/// How what a whole MLP keeps waits: the up-projection, and what the norm of its output went over.
struct MlpSaving {
  SaveParts up;
  SaveParts projected;
};

/// MLP: down(activation(up(x))), normalised if so told.
///
/// Whole, it keeps the up-projection [tokens, I] (with a gate: [tokens, 2I]) and, if that is
/// normalised, the down-projection, and makes the activation again in the backward, and those
/// rows of the up-projection that its policy does not keep. In
/// mini-sequences it keeps nothing: the forward runs range by range, and
/// the backward makes a range's up-projection again (once; the down projection only for its norm)
/// and finishes the range before the next begins. Its memory is then a range's, whatever the number
/// of tokens, also where the block around it is recomputed.
class Mlp {
 public:
  /// I is `intermediate`.
  Mlp(ParameterSet& parameters, const MlpProjections& projections, Activation activation,
      backend::Index hidden, backend::Index intermediate);

  /// Whole, or in mini-sequences; the backward of a pass as its forward.
  using Portions = std::optional<MiniSequence>;
  /// x, out [tokens, hidden]; out may be x.
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass,
               const Portions& mini_sequence = {}, const MlpSaving& saving = {}) const;
  /// dx, dy, x [tokens, hidden]; dx may be dy or x.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy, const backend::Tensor& x,
                Pass& pass, const Portions& mini_sequence = {}) const;

  /// Whether the backward reads x at all. `up`: how the forward kept the up-projection.
  bool needs_input(const Portions& mini_sequence, const SaveParts& up) const {
    return mini_sequence || up.recomputes() || up_.needs_input();
  }

 private:
  /// What a range of tokens needs; the last three only where the output is normalised.
  struct Buffers {
    backend::Tensor projected;   // [rows, up_.outputs()]
    backend::Tensor activated;   // [rows, I]
    backend::Tensor result;      // [rows, hidden]: of the down-projection
    backend::Tensor statistics;  // of its norm
    backend::Tensor gradient;    // [rows, hidden]: of the result

    Buffers rows(backend::Index count) const;
  };
  Buffers make_buffers(backend::Index rows, bool keeps, const Pass& pass) const;
  /// Calls visit(begin, end, buffers of its rows) for every range.
  template <typename Visit>
  void in_ranges(const MiniSequence& mini_sequence, backend::Index tokens, Pass& pass,
                 const Visit& visit) const;
  void forward_range(const backend::Tensor& out, const backend::Tensor& x, const Buffers& buffers,
                     Pass& pass) const;
  void project_again(const backend::Tensor& x, const Buffers& buffers, Pass& pass) const;
  backend::Tensor pop_projected(const backend::Tensor& x, Pass& pass) const;
  void backward_range(const backend::Tensor& dx, const backend::Tensor& dy,
                      const backend::Tensor& x, const Buffers& buffers, Pass& pass) const;

  Activation activation_;
  Linear up_;
  Linear down_;
  std::unique_ptr<RmsNorm> output_norm_;  // null where there is none
};

}  // namespace longspan::nn
