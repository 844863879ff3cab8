#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/shard/cover.h"

namespace longspan::shard {

/// Which axis of a tensor is divided among the ranks, and how; its other axes are whole.
struct Layout {
  int axis = 0;  ///< 0 or 1
  Cover cover;
};

/// One tensor of an exchange: its global shape [n0, n1, inner], and how it is held before and
/// after. Before, every index is held once (a partition); after, by as many ranks as need it.
struct Move {
  backend::Shape shape;
  Layout from;
  Layout to;
};

/// Writes a block of a tensor where it goes, instead of a copy: `out` from `in`, both [rows,
/// indices of axis 1, inner], of which the first row is row `first_row` of the tensor that `run`
/// was given.
using BlockWriter = std::function<void(const backend::Tensor& out, const backend::Tensor& in,
                                       backend::Index first_row)>;

/// What an exchange costs one rank.
struct ReshardCost {
  std::vector<std::uint64_t> bytes_to;  ///< by peer; what stays here costs nothing
  std::uint64_t bytes_sent = 0;
  std::uint64_t staging_bytes = 0;  ///< send and receive buffers, both alive at once
  int messages = 0;                 ///< one to each peer that gets anything
};

/// Moves tensors from one sharding to another by one all-to-all: one message a peer, whatever the
/// number of tensors. Ulysses (Jacobs et al. 2023) is tokens -> heads for q and, with a cover that
/// overlaps, k and v; DSP (Zhao et al. 2024) is time -> space. The adjoint sends gradients back
/// and sums those of overlaps at the owner, in rank order, so that it is the exact transpose:
/// <run(x), g> = <x, adjoint(g)>.
///
/// Nothing is padded: lengths and heads need not divide, ranks may hold nothing. Data are moved,
/// never computed with (but by a BlockWriter), so `run` is exact in any dtype.
class ReshardPlan {
 public:
  /// Of `rank`'s part. Throws InternalError when a `from` is no partition, or covers are not of one
  /// group.
  ReshardPlan(int rank, std::vector<Move> moves);

  /// Shape of tensor i on this rank, before and after.
  backend::Shape source_shape(std::size_t i) const;
  backend::Shape target_shape(std::size_t i) const;

  /// targets[i] = the rank's part of tensor i in its new layout. Rank-3 tensors of one dtype, which
  /// may have a row stride. Called by all ranks of the group. `writers` are those of the first
  /// tensors; the others are copied.
  void run(const std::vector<backend::Tensor>& targets, const std::vector<backend::Tensor>& sources,
           comm::Communicator& group, backend::Backend& backend,
           const std::vector<BlockWriter>& writers = {}) const;
  /// dsources[i] = the sum over ranks of what they hold of tensor i's gradient, added in rank order
  /// in float32 (float64) and rounded once; zeros for what nobody holds.
  void adjoint(const std::vector<backend::Tensor>& dsources,
               const std::vector<backend::Tensor>& dtargets, comm::Communicator& group,
               backend::Backend& backend) const;

  ReshardCost cost(base::DType dtype) const;

 private:
  /// A block of a tensor that goes from one rank to another, with its place at both ends.
  struct Block {
    std::size_t tensor;
    Index source_row, target_row;        // first index of axis 0
    Index source_column, target_column;  // first index of axis 1
    Index rows, columns;
  };
  using Message = std::vector<Block>;
  class Parcel;
  class Copies;
  /// Writes a block's part of a message, or leaves that to the copies.
  using Pack = std::function<void(Copies& copies, const Block& block, const backend::Tensor& part)>;

  Message message(int from, int to) const;
  static Message joined(const Message& message, Index Block::*row);
  static backend::Tensor view(const backend::Tensor& tensor, Index row, Index column,
                              const Block& block);
  static backend::Tensor source_view(const backend::Tensor& tensor, const Block& block);
  static backend::Tensor target_view(const backend::Tensor& tensor, const Block& block);
  Parcel exchange(const std::vector<Message>& outgoing, const std::vector<Message>& incoming,
                  base::DType dtype, const Pack& pack, comm::Communicator& group,
                  backend::Backend& backend) const;
  Index elements(const Message& message) const;
  std::vector<Index> offsets(const std::vector<Message>& messages) const;
  void check(const std::vector<backend::Tensor>& sources,
             const std::vector<backend::Tensor>& targets) const;

  int rank_;
  int ranks_;
  std::vector<Move> moves_;
  // By peer, in the order in which both ends walk them.
  std::vector<Message> outgoing_;  // none to the rank itself
  std::vector<Message> incoming_;
  Message staying_;
};

}  // namespace longspan::shard
