#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "longspan/model/model_config.h"
#include "longspan/nn/attention.h"
#include "longspan/nn/mlp.h"
#include "longspan/nn/norm.h"
#include "model/rope.h"

namespace longspan::model {

enum class NormKind : std::uint8_t { kRms, kLayer };

/// What a decoder of pre-norm blocks is made of, and what its parameters are called: a name here
/// is that of a tensor in checkpoints without its ".weight" or ".bias". The sizes are the
/// ModelConfig's.
struct Composition {
  struct Norms {
    NormKind kind = NormKind::kRms;
    double epsilon = 0.0;
    double weight_offset = 0.0;  ///< of RMS norms: see backend::RmsNormOptions
    std::string attention;       ///< before the attention of a block
    std::string mlp;             ///< before its MLP
    std::string last;            ///< before the head
  };

  std::string embedding;
  std::string learned_positions;  ///< empty: none
  std::string blocks;             ///< before a block's number: "model.layers."
  Norms norms;
  nn::AttentionProjections attention;  ///< names behind the block's
  nn::Activation activation = nn::Activation::kSwiGlu;
  nn::MlpProjections mlp;  ///< likewise
  double embedding_scale = 1.0;
  std::vector<Rope> ropes;                ///< the tables that layers use; none: nothing is rotated
  std::vector<nn::AttentionKind> layers;  ///< of each block
  std::string head;                       ///< empty: tied, the embedding's weights
  double logits_soft_cap = 0.0;           ///< 0: none

  bool is_tied() const { return head.empty(); }
};

/// What the family of a resolved config makes of it.
Composition composition_of(const ModelConfig& config);

/// A norm of `config`'s width, which declares `name`.
std::unique_ptr<nn::Norm> make_norm(nn::ParameterSet& parameters, const Composition& composition,
                                    const std::string& name, const ModelConfig& config);

/// Weights of the matrix products of one block, and parameters in all: whole numbers, in double so
/// that absurd sizes do not overflow.
double block_matmul_weights(const ModelConfig& config, const Composition& composition);
double all_parameters(const ModelConfig& config, const Composition& composition);

}  // namespace longspan::model
