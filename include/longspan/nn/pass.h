#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/nn/saved_input.h"
#include "longspan/shard/mesh.h"
#include "longspan/shard/token_layout.h"

namespace longspan::nn {

/// The row of a pass when several ranks share its tokens: who holds which, and the groups in which
/// they reach each other, which must outlive the pass.
struct SequenceShard {
  /// The groups of a mesh.
  SequenceShard(const shard::Mesh* mesh, shard::TokenLayout row);
  /// Ranks that are all Ulysses ranks of one part, or all places of a ring, as the layout says.
  SequenceShard(comm::Communicator& group, shard::TokenLayout row);

  /// This rank's place of the ring, and its number among all ranks that share the row.
  int place() const { return ring == nullptr ? 0 : ring->rank(); }
  int rank() const;

  shard::TokenLayout layout;
  comm::Communicator* ulysses = nullptr;  ///< null where there is one only
  comm::Communicator* ring = nullptr;     ///< likewise
};

/// What dropout and the random rounding of codes draw from in a pass: these are the same whoever
/// runs it, and when it is run again.
struct Draws {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  backend::Tensor numbers;  ///< int32 [tokens]: which of its step's tokens each one is
  /// The same of all tokens that Ulysses ranks have between them, in their order; undefined where
  /// this rank is alone, or nothing is rounded.
  backend::Tensor exchanged_numbers = {};
};

/// One micro-batch on one rank, on its way forward and back: what every layer may know. Nothing
/// is global. Slots are a stack: a forward pushes what its backward needs, the backward pops in
/// reverse order. A pass without a backward (evaluation, generation) keeps nothing: `push` drops.
///
/// What every layer of this floor follows:
/// - `forward(out, x, pass)` writes out; `backward(dx, dy, x, pass)` writes dx, adds into the
///   parameters' gradients and pops what the forward pushed. Outputs come first and belong to the
///   caller, who decides where they live; rows are tokens.
/// - A layer does not keep its own input: whoever calls `backward` hands over the same x again,
///   kept or computed anew.
/// - out may be x, and dx may be dy or x, where the layer says so.
class Pass {
 public:
  enum class Keep : std::uint8_t { kSlots, kNothing };

  /// `dtype`: of activations. `cu_seqlens` marks the documents of the packed stream; `positions`
  /// int32 [tokens] on the device restart with each document. With `shard` the stream is that of
  /// the whole row and the tokens are those that this rank holds of it.
  /// With `host`, a backend of the processor that must outlive the pass, slots whose policy says
  /// so wait there.
  Pass(backend::Backend& backend, base::DType dtype, backend::CuSeqlens cu_seqlens,
       backend::Tensor positions, Keep keep = Keep::kSlots,
       std::optional<SequenceShard> shard = std::nullopt, backend::Backend* host = nullptr);
  ~Pass();
  Pass(Pass&&) noexcept;
  Pass& operator=(Pass&&) = delete;

  backend::Backend& backend() const { return *backend_; }
  base::DType dtype() const { return dtype_; }
  /// Of norms' statistics, log-sum-exps and losses: float32, or float64 with float64 activations.
  base::DType statistic_dtype() const;
  /// Of this rank.
  backend::Index tokens() const { return tokens_; }
  /// Of the row, which this rank may hold a part of.
  const backend::CuSeqlens& cu_seqlens() const { return cu_seqlens_; }
  /// Null when this rank holds the row alone.
  const SequenceShard* shard() const { return shard_ ? &*shard_ : nullptr; }
  const backend::Tensor& positions() const { return positions_; }

  /// cos and sin of this pass's positions, made once by a model with rotary positions: a table for
  /// each set of frequencies that its layers use, [tokens, head_dim].
  const backend::Tensor& rope_table(std::size_t number) const { return rope_tables_.at(number); }
  void set_rope_tables(std::vector<backend::Tensor> tables) { rope_tables_ = std::move(tables); }

  /// Null where nothing is drawn: in a pass that does not train, or in one of a model without
  /// dropout whose slots are not rounded at random.
  const Draws* draws() const { return draws_ ? &*draws_ : nullptr; }
  void set_draws(Draws draws) { draws_ = std::move(draws); }
  /// Which of the pass's tokens is the first row of what layers are given at the moment.
  backend::Index first_token() const { return first_token_; }

  /// Activations that live until the layer ends / until the backward takes them (workspace too
  /// when this pass keeps nothing).
  backend::Tensor workspace(const backend::Shape& shape) const;
  backend::Tensor saved(const backend::Shape& shape) const;
  /// The same two in `statistic_dtype`.
  backend::Tensor workspace_statistics(const backend::Shape& shape) const;
  backend::Tensor saved_statistics(const backend::Shape& shape) const;

  /// Keeps a slot for the backward, or drops it when this pass keeps nothing.
  void push(backend::Tensor slot);
  /// The same of a dense slot that is large and not needed soon, by its policy. What goes to the
  /// host goes there beside the device's work, and comes back while the backward is at the block
  /// above its own: on the device are then slots of at most two blocks. What is rounded at random
  /// draws by the block, the slot, the token and the element; a pass that keeps nothing draws
  /// nothing. Throws InternalError when the pass has no draws.
  void push(backend::Tensor slot, const SaveParts& parts, const SlotRow& row);
  /// The slots pushed from here on are another block's.
  void start_block();
  /// The slot pushed last. Throws InternalError when there is none, or when rows of it are missing.
  backend::Tensor pop();
  /// The same of a slot whose policy may say that rows are made again: those in `missing` hold
  /// anything, and it is the layer's to make them.
  struct Incomplete {
    backend::Tensor tensor;
    std::vector<shard::Range> missing;
  };
  Incomplete pop_incomplete();
  std::size_t slots() const { return slots_.size(); }

 private:
  backend::Backend* backend_;
  base::DType dtype_;
  Keep keep_;
  backend::CuSeqlens cu_seqlens_;
  backend::Tensor positions_;
  std::optional<SequenceShard> shard_;
  backend::Index tokens_ = 0;
  struct Slot {
    backend::Tensor tensor;          ///< undefined where a policy keeps it
    std::optional<SavedRows> saved;  ///< by such a policy
    int block = 0;
  };
  std::optional<backend::CodeRounding> rounding_of(const backend::Tensor& slot,
                                                   const SaveParts& parts,
                                                   const SlotRow& row) const;
  void send_away_others();
  void bring_back(int block);

  friend class TokenRange;

  backend::Backend* host_;
  std::optional<Draws> draws_;
  backend::Index first_token_ = 0;
  std::vector<backend::Tensor> rope_tables_;
  std::vector<Slot> slots_;
  int block_ = 0;
};

/// For as long as this lives, what layers are given begins with the pass's token `first`.
class TokenRange {
 public:
  TokenRange(Pass& pass, backend::Index first) : pass_(&pass), before_(pass.first_token_) {
    pass.first_token_ = first;
  }
  ~TokenRange() { pass_->first_token_ = before_; }
  TokenRange(const TokenRange&) = delete;
  TokenRange& operator=(const TokenRange&) = delete;

 private:
  Pass* pass_;
  backend::Index before_;
};

}  // namespace longspan::nn
