#include "longspan/shard/reshard.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::shard {

using backend::Backend;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;

namespace {

Shape local_shape(const Shape& shape, const Layout& layout, int rank) {
  const Index held = layout.cover.size(rank);
  return layout.axis == 0 ? Shape{held, shape[1], shape[2]} : Shape{shape[0], held, shape[2]};
}

/// What a rank holds of an axis.
std::vector<Range> held(const Shape& shape, const Layout& layout, int rank, int axis) {
  if (layout.axis == axis) return layout.cover.ranges(rank);
  return {{0, shape[axis]}};
}

/// Indices that two ranks have in common, and where each of them has them in its part.
struct Shared {
  Index source;
  Index target;
  Index size;
};

/// Of each of a source's ranges in turn, what each of a target's has of it.
std::vector<Shared> shared(const std::vector<Range>& source, const std::vector<Range>& target) {
  std::vector<Shared> shared;
  Index before_source = 0;  // indices of the part in earlier ranges
  for (const Range& a : source) {
    Index before_target = 0;
    for (const Range& b : target) {
      const Range both{std::max(a.begin, b.begin), std::min(a.end, b.end)};
      if (both.begin < both.end) {
        shared.push_back({before_source + both.begin - a.begin,
                          before_target + both.begin - b.begin, both.size()});
      }
      before_target += b.size();
    }
    before_source += a.size();
  }
  return shared;
}

void check_move(const Move& move, int ranks) {
  const auto fits = [&](const Layout& layout) {
    return (layout.axis == 0 || layout.axis == 1) && layout.cover.ranks() == ranks &&
           layout.cover.extent() == move.shape[layout.axis];
  };
  if (move.shape.rank() != 3 || !fits(move.from) || !fits(move.to) ||
      !move.from.cover.is_partition()) {
    throw base::InternalError(
        fmt::format("ReshardPlan: a tensor of {} over {} ranks does not fit its layouts, or is not "
                    "held exactly once",
                    move.shape.to_string(), ranks));
  }
}

}  // namespace

ReshardPlan::ReshardPlan(int rank, std::vector<Move> moves)
    : rank_(rank),
      ranks_(moves.empty() ? 0 : moves.front().from.cover.ranks()),
      moves_(std::move(moves)) {
  if (moves_.empty() || rank < 0 || rank >= ranks_) {
    throw base::InternalError("ReshardPlan: nothing to move, or a rank outside of the group");
  }
  for (const Move& move : moves_) check_move(move, ranks_);
  for (int peer = 0; peer < ranks_; ++peer) {
    const bool is_other = peer != rank_;
    outgoing_.push_back(is_other ? joined(message(rank_, peer), &Block::source_row) : Message());
    incoming_.push_back(is_other ? joined(message(peer, rank_), &Block::target_row) : Message());
  }
  staying_ = message(rank_, rank_);
}

Shape ReshardPlan::source_shape(std::size_t i) const {
  return local_shape(moves_[i].shape, moves_[i].from, rank_);
}

Shape ReshardPlan::target_shape(std::size_t i) const {
  return local_shape(moves_[i].shape, moves_[i].to, rank_);
}

ReshardPlan::Message ReshardPlan::message(int from, int to) const {
  Message blocks;
  for (std::size_t i = 0; i < moves_.size(); ++i) {
    const Move& move = moves_[i];
    const auto shared_of = [&](int axis) {
      return shared(held(move.shape, move.from, from, axis), held(move.shape, move.to, to, axis));
    };
    const std::vector<Shared> columns = shared_of(1);
    for (const Shared& row : shared_of(0)) {
      for (const Shared& column : columns) {
        blocks.push_back({.tensor = i,
                          .source_row = row.source,
                          .target_row = row.target,
                          .source_column = column.source,
                          .target_column = column.target,
                          .rows = row.size,
                          .columns = column.size});
      }
    }
  }
  return blocks;
}

/// A message's blocks that follow each other in this rank's tensors as they do in the message are
/// one: it may be in many at the other end, as the tokens of one rank are in a row of all.
ReshardPlan::Message ReshardPlan::joined(const Message& message, Index Block::*row) {
  Message joined;
  for (const Block& block : message) {
    if (!joined.empty() && joined.back().tensor == block.tensor &&
        joined.back().source_column == block.source_column &&
        joined.back().columns == block.columns &&
        joined.back().*row + joined.back().rows == block.*row) {
      joined.back().rows += block.rows;
    } else {
      joined.push_back(block);
    }
  }
  return joined;
}

Index ReshardPlan::elements(const Message& message) const {
  Index elements = 0;
  for (const Block& block : message) {
    elements += block.rows * block.columns * moves_[block.tensor].shape[2];
  }
  return elements;
}

/// Rows and columns of a rank-3 tensor as a matrix.
Tensor ReshardPlan::view(const Tensor& tensor, Index row, Index column, const Block& block) {
  const Index inner = tensor.size(2);
  return tensor.reshape({tensor.size(0), tensor.size(1) * inner})
      .rows(row, row + block.rows)
      .columns(column * inner, (column + block.columns) * inner);
}

Tensor ReshardPlan::source_view(const Tensor& tensor, const Block& block) {
  return view(tensor, block.source_row, block.source_column, block);
}

Tensor ReshardPlan::target_view(const Tensor& tensor, const Block& block) {
  return view(tensor, block.target_row, block.target_column, block);
}

void ReshardPlan::check(const std::vector<Tensor>& sources,
                        const std::vector<Tensor>& targets) const {
  bool fits = sources.size() == moves_.size() && targets.size() == moves_.size();
  for (std::size_t i = 0; fits && i < moves_.size(); ++i) {
    fits = sources[i].shape() == source_shape(i) && targets[i].shape() == target_shape(i) &&
           sources[i].dtype() == sources[0].dtype() && targets[i].dtype() == sources[0].dtype();
  }
  if (!fits) {
    throw base::InternalError(
        fmt::format("ReshardPlan: {} and {} tensors were given for {} moves, or one of another "
                    "shape or dtype",
                    sources.size(), targets.size(), moves_.size()));
  }
}

/// The messages of one direction, to or from every peer, in one dense buffer. What stays on the
/// rank takes no space: it is copied straight from tensor to tensor.
class ReshardPlan::Parcel {
 public:
  Parcel(const ReshardPlan& plan, const std::vector<Message>& messages, base::DType dtype,
         Backend& backend)
      : plan_(&plan), messages_(&messages), offsets_(plan.offsets(messages)) {
    data_ = backend.allocate({offsets_.back()}, dtype, MemoryTag::kCommunication);
  }

  const std::vector<Index>& offsets() const { return offsets_; }
  const Tensor& data() const { return data_; }

  /// Calls visit(block, its part of the buffer [rows, columns * inner]) for a peer's message.
  template <typename Visit>
  void for_each(int peer, const Visit& visit) const {
    const auto at = static_cast<std::size_t>(peer);
    Index begin = offsets_[at];
    for (const Block& block : (*messages_)[at]) {
      const Index width = block.columns * plan_->moves_[block.tensor].shape[2];
      const Index end = begin + block.rows * width;
      visit(block, data_.rows(begin, end).reshape({block.rows, width}));
      begin = end;
    }
  }

 private:
  const ReshardPlan* plan_;
  const std::vector<Message>* messages_;
  std::vector<Index> offsets_;
  Tensor data_;
};

/// Where each peer's message begins in a buffer of all.
std::vector<Index> ReshardPlan::offsets(const std::vector<Message>& messages) const {
  std::vector<Index> offsets{0};
  for (const Message& message : messages) offsets.push_back(offsets.back() + elements(message));
  return offsets;
}

/// Copies of blocks that are done together.
class ReshardPlan::Copies {
 public:
  void add(const Tensor& out, const Tensor& in) {
    outs_.push_back(out);
    ins_.push_back(in);
  }
  void run(Backend& backend) const { backend.copy_all(outs_, ins_); }

 private:
  std::vector<Tensor> outs_;
  std::vector<Tensor> ins_;
};

/// Sends `outgoing`, packed by `pack`, and returns what came.
ReshardPlan::Parcel ReshardPlan::exchange(const std::vector<Message>& outgoing,
                                          const std::vector<Message>& incoming, base::DType dtype,
                                          const Pack& pack, comm::Communicator& group,
                                          Backend& backend) const {
  Parcel receive(*this, incoming, dtype, backend);
  const Parcel send(*this, outgoing, dtype, backend);
  Copies copies;
  for (int peer = 0; peer < ranks_; ++peer) {
    send.for_each(peer, [&](const Block& block, const Tensor& part) { pack(copies, block, part); });
  }
  copies.run(backend);
  group.all_to_all(receive.data(), receive.offsets(), send.data(), send.offsets(), backend);
  return receive;
}

void ReshardPlan::run(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources,
                      comm::Communicator& group, Backend& backend,
                      const std::vector<BlockWriter>& writers) const {
  check(sources, targets);
  const auto write = [&](Copies& copies, const Block& block, const Tensor& out) {
    const Tensor in = source_view(sources[block.tensor], block);
    if (block.tensor >= writers.size()) return copies.add(out, in);
    const Shape shape{block.rows, block.columns, moves_[block.tensor].shape[2]};
    writers[block.tensor](out.reshape(shape), in.reshape(shape), block.source_row);
  };
  const Parcel received = exchange(outgoing_, incoming_, sources[0].dtype(), write, group, backend);
  Copies copies;
  for (int peer = 0; peer < ranks_; ++peer) {
    received.for_each(peer, [&](const Block& block, const Tensor& part) {
      copies.add(target_view(targets[block.tensor], block), part);
    });
  }
  for (const Block& block : staying_) {
    write(copies, block, target_view(targets[block.tensor], block));
  }
  copies.run(backend);
}

void ReshardPlan::adjoint(const std::vector<Tensor>& dsources, const std::vector<Tensor>& dtargets,
                          comm::Communicator& group, Backend& backend) const {
  check(dsources, dtargets);
  const auto pack = [&](Copies& copies, const Block& block, const Tensor& part) {
    copies.add(part, target_view(dtargets[block.tensor], block));
  };
  const Parcel received = exchange(incoming_, outgoing_, dtargets[0].dtype(), pack, group, backend);
  // Where each index has one holder its gradient is that holder's; else all holders' are added to
  // zeros, in rank order, whichever of them is this rank, and rounded once.
  std::vector<Tensor> sums(moves_.size());
  for (std::size_t i = 0; i < moves_.size(); ++i) {
    if (moves_[i].to.cover.is_partition()) continue;
    sums[i] = dsources[i].dtype() == base::DType::kBFloat16
                  ? backend.allocate(dsources[i].shape(), base::DType::kFloat32,
                                     backend::MemoryTag::kWorkspace)
                  : dsources[i];
    backend.zero(sums[i]);
  }
  Copies copies;
  const auto settle = [&](const Block& block, const Tensor& part) {
    const Tensor& sum = sums[block.tensor];
    if (sum.defined()) {
      backend.accumulate(source_view(sum, block), part);
    } else {
      copies.add(source_view(dsources[block.tensor], block), part);
    }
  };
  for (int peer = 0; peer < ranks_; ++peer) {
    received.for_each(peer, settle);
    if (peer != rank_) continue;
    for (const Block& block : staying_) settle(block, target_view(dtargets[block.tensor], block));
  }
  copies.run(backend);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i].defined() && sums[i].dtype() != dsources[i].dtype()) {
      backend.copy(dsources[i], sums[i]);
    }
  }
}

ReshardCost ReshardPlan::cost(base::DType dtype) const {
  const auto element = static_cast<std::uint64_t>(base::size_of(dtype));
  const std::vector<Index> out = offsets(outgoing_);
  ReshardCost cost;
  for (std::size_t peer = 0; peer + 1 < out.size(); ++peer) {
    cost.bytes_to.push_back(static_cast<std::uint64_t>(out[peer + 1] - out[peer]) * element);
    cost.messages += cost.bytes_to.back() > 0 ? 1 : 0;
  }
  cost.bytes_sent = static_cast<std::uint64_t>(out.back()) * element;
  cost.staging_bytes =
      cost.bytes_sent + static_cast<std::uint64_t>(offsets(incoming_).back()) * element;
  return cost;
}

}  // namespace longspan::shard
