#include "longspan/data/clip_sampler.h"

#include <fmt/format.h>

#include <limits>

#include "data/packing.h"
#include "longspan/base/error.h"

namespace longspan::data {

ClipSampler::ClipSampler(std::int64_t clips, std::int64_t clips_per_step, std::uint64_t seed)
    : clips_(clips), clips_per_step_(clips_per_step), seed_(seed) {
  if (clips >= 1 && clips_per_step >= 1) return;
  throw base::InternalError(
      fmt::format("a sampler of {} clips, {} of them a step", clips, clips_per_step));
}

std::vector<std::int64_t> ClipSampler::clips(std::int64_t step) {
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = step * clips_per_step_; i < (step + 1) * clips_per_step_; ++i) {
    const std::int64_t epoch = i / clips_;
    if (epoch > std::numeric_limits<std::uint32_t>::max()) {
      throw base::InternalError(fmt::format("epoch {} is beyond the sampler's 2^32", epoch));
    }
    if (order_.epoch != epoch) {
      order_ = {epoch, shuffled(clips_, seed_, static_cast<std::uint64_t>(epoch), Shuffle::kClips)};
    }
    chosen.push_back(order_.clips[static_cast<std::size_t>(i % clips_)]);
  }
  return chosen;
}

}  // namespace longspan::data
