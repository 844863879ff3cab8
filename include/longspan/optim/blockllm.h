#pragma once

#include <vector>

#include "longspan/optim/block_choice.h"
#include "longspan/optim/optimizer.h"

namespace longspan::optim {

/// BlockLLM (Ramesh et al. 2024): AdamW of those parameters alone that a BlockChoice has chosen;
/// the others keep their bits until they are. Moments begin at 0, with bias corrections of their
/// own, when a parameter is chosen, and go when it no longer is; one that stays keeps them.
///
/// Both moments of what is chosen lie in memory of one size, which is enough for the own elements
/// of any choice and does not depend on which was made. States: "choice.parameters" [parameters,
/// BlockChoice::kEach] and "choice.losses" [BlockChoice::kSums], float64, on all ranks, and
/// "moment1" and "moment2" of what is chosen. For bfloat16 weights all have a master.
class BlockLlm : public Optimizer {
 public:
  /// As Optimizer.
  BlockLlm(const AdamConfig& config, const BlockConfig& blocks, nn::ParameterSet& parameters,
           backend::Backend& backend, backend::Backend* host = nullptr);

  bool observe(double loss) override { return choice_.observe(loss); }
  void choose(const std::vector<double>& gradient_squares) override;
  std::vector<StateTensor> choice() const override;
  void take_choice() override;

 private:
  bool trains(int number) const override { return choice_.has(number); }
  void update(const Piece& piece, const backend::AdamWOptions& options) override;
  void append_states(std::vector<StateTensor>& states) const override;
  void place(bool keeps);
  void append_moments(std::vector<StateTensor>& states, const char* prefix,
                      const backend::Tensor& moments) const;

  BlockChoice choice_;
  backend::Tensor of_parameters_;  ///< what checkpoints read of the choice
  backend::Tensor losses_;
  backend::Tensor moment1_;
  backend::Tensor moment2_;
  std::vector<backend::Index> begins_;  ///< by parameter: where its moments begin; kNowhere
  static constexpr backend::Index kNowhere = -1;
};

}  // namespace longspan::optim
