#include "train/clip_ranks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>

#include "longspan/base/error.h"
#include "train/parallel_layout.h"

namespace longspan::train {
namespace {

using base::InputError;

}  // namespace

std::vector<std::int64_t> ClipRanks::micro_batches(std::int64_t count, int group) const {
  std::vector<std::int64_t> taken;
  for (std::int64_t first = 0; first < count; first += data) taken.push_back(first + group);
  return taken;
}

ClipPasses ClipRanks::passes(const std::vector<std::vector<ClipSample>>& micro_batches,
                             int group) const {
  const auto count = static_cast<std::int64_t>(micro_batches.size());
  ClipPasses passes;
  for (const std::int64_t number : this->micro_batches(count, group)) {
    passes.emplace_back();
    if (number < count) passes.back() = micro_batches[static_cast<std::size_t>(number)];
  }
  return passes;
}

ClipRanks clip_ranks(const ClipJob& job, int ranks) {
  const std::int64_t wish = job.group_ranks;
  const std::int64_t data = job.parallel.data;
  const std::int64_t least = std::max<std::int64_t>(1, wish) * std::max<std::int64_t>(1, data);
  if (ranks % least != 0 || (wish > 0 && data > 0 && least != ranks)) {
    throw InputError(fmt::format(
        "parallel.data is {} and parallel.sequence {}, but {} rank(s) were launched; launch {}{}",
        data > 0 ? std::to_string(data) : "\"auto\"", wish > 0 ? std::to_string(wish) : "\"auto\"",
        ranks, wish > 0 && data > 0 ? "" : "a multiple of ", least));
  }
  ClipRanks layout;
  layout.sequence = wish > 0   ? static_cast<int>(wish)
                    : data > 0 ? static_cast<int>(ranks / data)
                               : fewest_ranks(job.batch.micro_batches(), ranks);
  layout.data = ranks / layout.sequence;
  if (job.batch.micro_batches() < layout.data) {
    throw InputError(fmt::format(
        "training.clips_per_step / training.clips_per_micro_batch gives {} micro-batch(es) a step "
        "for {} groups of {} rank(s); raise the first, lower the second, or raise "
        "parallel.sequence, so that more ranks share clips",
        job.batch.micro_batches(), layout.data, layout.sequence));
  }
  return layout;
}

std::string clip_placement(const ClipJob& job, const data::ClipShape& shape,
                           const ClipRanks& layout) {
  const shard::ClipSharing sharing = job.sharing();
  if (layout.sequence == 1 || sharing.sharding != shard::ClipSharding::kDynamic) return "";
  const std::vector<shard::ClipGrid> clips(
      static_cast<std::size_t>(job.batch.clips_per_micro_batch),
      patches_of(shape, job.model.patch_size).grid());
  return placement_name(shard::placement_of(sharing, clips, layout.sequence));
}

PlacementCounts clip_placements(const ClipJob& job, const std::vector<data::ClipShape>& shapes,
                                const ClipRanks& layout) {
  PlacementCounts counts;
  for (const data::ClipShape& shape : shapes) {
    const std::string placement = clip_placement(job, shape, layout);
    if (!placement.empty()) ++counts[placement];
  }
  return counts;
}

std::string clip_sharing_text(const std::string& mode, const PlacementCounts& placements) {
  if (placements.empty()) return mode;
  if (placements.size() == 1) return fmt::format("{}, {}", mode, placements.begin()->first);
  std::vector<std::string> parts;
  for (const auto& [placement, extents] : placements) {
    parts.push_back(fmt::format("{} for {}", placement, extents));
  }
  return fmt::format("{}, {} extents of clips", mode, fmt::join(parts, " and "));
}

std::string clip_ranks_text(const ClipJob& job, const std::vector<data::ClipShape>& shapes,
                            const ClipRanks& layout) {
  return fmt::format("{} data group(s) of {} rank(s) that share clips ({}), ZeRO stage {}",
                     layout.data, layout.sequence,
                     clip_sharing_text(job.sequence_mode, clip_placements(job, shapes, layout)),
                     job.parallel.zero_stage);
}

std::unique_ptr<comm::Communicator> clip_group(comm::Communicator& world, const ClipRanks& layout) {
  if (layout.sequence == 1) return nullptr;
  std::vector<int> members(static_cast<std::size_t>(layout.sequence));
  std::iota(members.begin(), members.end(), world.rank() / layout.sequence * layout.sequence);
  return world.group("sequence", members);
}

}  // namespace longspan::train
