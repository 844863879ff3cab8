#pragma once

#include <cstdint>
#include <vector>

#include "longspan/shard/cover.h"

namespace longspan::optim {

struct BlockConfig {
  double active = 0.1;           ///< part of all elements that are chosen, at most
  std::int64_t interval = 1000;  ///< updates of a choice at most; 0: any number
  std::int64_t patience = 100;   ///< updates over which losses are compared; 0: they are not
};

/// Which parameters are trained for the time being (BlockLLM, Ramesh et al. 2024). A parameter's
/// score is |its gradient| / exp(the part of all choices so far that it was in). A choice takes
/// the highest score, whatever its parameter's size, and then in the order of scores all that fit
/// into `active` of all elements; of equal scores the first parameter goes first. So every
/// parameter may be chosen, embeddings and heads, too, and a choice has as many elements as
/// `active` says or as the largest parameter, whichever is more.
///
/// The first update makes a choice; the next is due after `interval` updates, or when the mean
/// loss of `patience` updates is above that of all before them under the same choice, which is
/// asked every `patience` updates.
///
/// It is a function of the numbers it is told alone, which are the same on every rank.
class BlockChoice {
 public:
  using Index = shard::Index;

  /// Of parameters of these sizes.
  BlockChoice(const BlockConfig& config, const std::vector<Index>& elements);

  /// Elements that a choice has at most.
  Index most() const;
  /// Before an update, with its step's loss: whether a new choice is due.
  bool observe(double loss);
  /// Chooses; of each parameter the sum of its gradient's squares. `updates`: done so far.
  void choose(const std::vector<double>& gradient_squares, std::int64_t updates);
  bool has(int number) const { return at(number).is_chosen; }
  /// Updates that were done before it was chosen: a parameter that stays keeps its count.
  std::int64_t begun(int number) const { return at(number).begun; }

  /// All that it knows, for checkpoints: three numbers of each parameter, and kSums beside them.
  static constexpr Index kEach = 3;
  static constexpr Index kSums = 4;
  std::vector<double> of_parameters() const;
  std::vector<double> sums() const;
  void set(const std::vector<double>& of_parameters, const std::vector<double>& sums);

 private:
  struct One {
    Index elements = 0;
    bool is_chosen = false;
    std::int64_t visits = 0;  ///< choices it was in
    std::int64_t begun = 0;
  };
  const One& at(int number) const { return parameters_[static_cast<std::size_t>(number)]; }
  Index budget() const;
  std::vector<std::size_t> by_score(const std::vector<double>& gradient_squares) const;

  BlockConfig config_;
  std::vector<One> parameters_;
  std::int64_t choices_ = 0;
  std::int64_t since_ = 0;  ///< updates observed since the last choice
  double recent_ = 0;       ///< sum of losses since they were last compared
  double earlier_ = 0;      ///< of those before, under the same choice
};

}  // namespace longspan::optim
