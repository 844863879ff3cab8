#include "model/clip_tokens.h"

#include <utility>

namespace longspan::model {

using backend::Index;
using shard::ClipOrder;

ClipTokens clip_tokens(const shard::ClipLayout& layout, ClipOrder order, int rank) {
  const bool by_frame = order == ClipOrder::kByFrame;
  ClipTokens tokens;
  for (std::size_t clip = 0; clip < layout.clips().size(); ++clip) {
    const shard::ClipPart part = layout.part(clip, order, rank);
    const shard::ClipGrid& grid = part.grid;
    const auto begin = static_cast<Index>(tokens.positions.size());
    part.for_each(order, [&](Index frame, Index place) {
      tokens.positions.push_back(static_cast<std::int32_t>(by_frame ? place : frame));
    });
    tokens.rows.push_back({begin, static_cast<Index>(tokens.positions.size())});
    const Index length = by_frame ? grid.places : grid.frames;
    const Index all = by_frame ? grid.frames : grid.places;
    const Index held = by_frame ? part.frames.size() : part.places.size();
    for (Index i = 0; i < (layout.shares_attention(order) ? all : held); ++i) {
      tokens.cu_seqlens.push_back(tokens.cu_seqlens.back() + static_cast<std::int32_t>(length));
    }
  }
  return tokens;
}

std::optional<nn::SequenceShard> clip_shard(const shard::ClipLayout& layout, ClipOrder order,
                                            comm::Communicator* group) {
  if (!layout.shares_attention(order)) return std::nullopt;
  shard::Cover row = layout.row(order);
  const bool is_ring = layout.sharding() == shard::ClipSharding::kRing;
  return nn::SequenceShard(*group, is_ring ? shard::TokenLayout::of_ring(std::move(row))
                                           : shard::TokenLayout::of_ulysses(std::move(row)));
}

}  // namespace longspan::model
