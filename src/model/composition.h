#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "longspan/model/model_config.h"
#include "longspan/nn/attention.h"
#include "longspan/nn/mlp.h"
#include "longspan/nn/norm.h"

namespace longspan::model {

enum class NormKind : std::uint8_t { kRms, kLayer };

/// What a decoder of pre-norm blocks is made of, and what its parameters are called: a name here
/// is that of a tensor in checkpoints without its ".weight" or ".bias". The sizes are the
/// ModelConfig's.
struct Composition {
  struct Norms {
    NormKind kind = NormKind::kRms;
    double epsilon = 0.0;
    std::string attention;  ///< before the attention of a block
    std::string mlp;        ///< before its MLP
    std::string last;       ///< before the head
  };

  std::string embedding;
  std::string learned_positions;  ///< empty: none
  std::string blocks;             ///< before a block's number: "model.layers."
  Norms norms;
  nn::AttentionProjections attention;  ///< names behind the block's
  nn::Activation activation = nn::Activation::kSwiGlu;
  nn::MlpProjections mlp;  ///< likewise
  double rope_theta = 0.0;
  std::string head;  ///< empty: tied, the embedding's weights

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
