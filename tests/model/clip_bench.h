#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "longspan/model/clip_model.h"

namespace longspan::model::test {

/// Packed clips with random numbers, of which any rank of a layout can have its part.
struct RandomClips {
  RandomClips(const ClipConfig& clip_config, const std::vector<ClipPatches>& sizes,
              std::uint64_t seed)
      : config(clip_config), clips(sizes) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<float> normal;
    const auto draw = [&](std::size_t count) {
      std::vector<float> numbers(count);
      for (float& number : numbers) number = normal(engine);
      return numbers;
    };
    for (const ClipPatches& clip : clips) {
      const auto count = static_cast<std::size_t>(clip.grid().tokens() * config.patch_numbers());
      inputs.push_back(draw(count));
      targets.push_back(draw(count));
      times.push_back(static_cast<double>(engine() % 1000) / 1000.0);
      if (config.num_classes > 0) {
        classes.push_back(
            static_cast<std::int32_t>(engine() % static_cast<std::uint64_t>(config.num_classes)));
      }
    }
  }

  /// As a rank of `group` holds them; the last frame of each clip counts as no target if so told.
  ClipBatch batch(comm::Communicator* group, bool skips_last_frames = false,
                  ClipSharding sharding = ClipSharding::kDynamic,
                  ClipPlacement placement = ClipPlacement::kAlternating) const {
    ClipBatch batch;
    batch.clips = clips;
    batch.times = times;
    batch.classes = classes;
    batch.group = group;
    batch.sharding = sharding;
    batch.placement = placement;
    const shard::ClipLayout layout = batch.layout();
    const shard::ClipOrder first = layout.residual(shard::ClipOrder::kByFrame);
    const shard::ClipOrder last = layout.residual(shard::ClipOrder::kByPlace);
    const int rank = group == nullptr ? 0 : group->rank();
    for (std::size_t clip = 0; clip < clips.size(); ++clip) {
      const std::int64_t numbers = config.patch_numbers();
      const auto append = [&](std::vector<float>& to, const std::vector<float>& whole,
                              std::int64_t frame, std::int64_t place) {
        const std::int64_t places = layout.clips()[clip].places;
        const auto begin = whole.begin() + (frame * places + place) * numbers;
        to.insert(to.end(), begin, begin + numbers);
      };
      layout.part(clip, first, rank).for_each(first, [&](std::int64_t frame, std::int64_t place) {
        append(batch.inputs, inputs[clip], frame, place);
      });
      layout.part(clip, last, rank).for_each(last, [&](std::int64_t frame, std::int64_t place) {
        append(batch.targets, targets[clip], frame, place);
        if (!skips_last_frames) return;
        batch.counts.push_back(frame + 1 < layout.clips()[clip].frames ? 1.0F : 0.0F);
      });
    }
    return batch;
  }

  ClipConfig config;
  std::vector<ClipPatches> clips;
  std::vector<std::vector<float>> inputs;   ///< of each clip [frames, places, patch_numbers]
  std::vector<std::vector<float>> targets;  ///< likewise
  std::vector<double> times;
  std::vector<std::int32_t> classes;
};

/// A small one, with classes or without.
inline ClipConfig small_clip_config(std::int64_t classes, bool is_causal) {
  ClipConfig config;
  config.channels = 2;
  config.patch_size = 1;
  config.hidden_size = 8;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 12;
  config.num_classes = classes;
  config.class_tokens = 3;
  config.is_causal = is_causal;
  return config;
}

}  // namespace longspan::model::test
