#pragma once

#include <optional>
#include <string>
#include <vector>

#include "longspan/nn/mini_sequence.h"
#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"
#include "longspan/nn/weight_gradient.h"

namespace longspan::nn {

/// Which matrices get low-rank adapters, and how these work.
struct LoraOptions {
  backend::Index rank = 0;
  double scale = 1.0;    ///< multiplies B A
  double dropout = 0.0;  ///< probability, in [0, 1), with which A does not see an element of x
  ModuleNames targets;
};

/// PEFT's name of an adapter's tensor: that of the module and of the matrix, "A" or "B".
std::string lora_name(const std::string& module, const char* matrix);

/// Where the adapters of a model are declared, in units of their own.
struct Adapters {
  ParameterSet* parameters = nullptr;  ///< must outlive all layers
  LoraOptions options;
  const VeloraOptions* velora = nullptr;      ///< of the gradients of As; null: these are exact
  const SamplingOptions* sampling = nullptr;  ///< likewise
};

/// Low-rank adapters beside matrices that read the same input (Hu et al. 2021, "LoRA"): to the
/// outputs of each are added scale * (drop(x) A^T) B^T, A [rank, inputs], B [outputs, rank]. Named
/// as PEFT names them; the first values are PEFT's, too: A uniform within 1 / sqrt(inputs)
/// ("kaiming uniform" of a = sqrt(5)), B zero, so that nothing is added at first.
///
/// Matrices side by side share the mask of dropout, and the product with their As is one. Nothing
/// is kept for the backward: drop(x) A^T [tokens, rank] is made again there, and with dropout so is
/// drop(x), in ranges of tokens of at most 16 MiB.
class Lora {
 public:
  /// A matrix that is adapted: columns [first, first + outputs) of the outputs that lie together.
  struct Part {
    std::string module;
    backend::Index first = 0;
    backend::Index outputs = 0;
  };

  /// Declares what `parts`, at least one, need.
  Lora(const Adapters& adapters, const std::vector<Part>& parts, backend::Index inputs);

  /// Adds to out [tokens, outputs] what the adapters make of x [tokens, inputs].
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;

  /// scale * dy B of all parts, [tokens, parts * rank]: what both halves of the backward are told.
  backend::Tensor gradient_of_rows(const backend::Tensor& dy, Pass& pass) const;
  /// Adds to the gradients of A and B, if they train.
  void backward_weight(const backend::Tensor& rows_gradient, const backend::Tensor& dy,
                       const backend::Tensor& x, Pass& pass) const;
  /// Adds to dx [tokens, inputs].
  void backward_input(const backend::Tensor& dx, const backend::Tensor& rows_gradient,
                      Pass& pass) const;

 private:
  bool drops(const Pass& pass) const;
  Ranges ranges(backend::Index tokens, const Pass& pass) const;
  void drop(const backend::Tensor& out, const backend::Tensor& x, backend::Index first,
            Pass& pass) const;
  template <typename Visit>
  void visit_dropped(const backend::Tensor& x, Pass& pass, const Visit& visit) const;
  backend::Tensor down(const backend::Tensor& dropped, Pass& pass) const;
  backend::Index rank_end(std::size_t part) const;

  ParameterSet* parameters_;
  backend::Index rank_;
  double scale_;
  double dropout_;
  backend::Index inputs_;
  std::vector<Part> parts_;
  int first_a_ = 0;  ///< of the As, which lie side by side
  int first_b_ = 0;  ///< of the Bs
  std::optional<WeightGradient> gradient_a_;
};

}  // namespace longspan::nn
