// The spatial-temporal model on ranks that share clips, in every way of sharing, against one rank
// that has them all.
#include <catch2/catch.hpp>
#include <string>

#include "longspan/data/sprites.h"
#include "longspan/model/clip_model.h"
#include "longspan/train/clip_objective.h"
#include "tests/model/clip_bench.h"
#include "tests/model/fixture.h"
#include "tests/support/relative_distance.h"
#include "tests/train/ranks/step_bench.h"

namespace longspan::train {
namespace {

using backend::Index;
using base::DType;
using longspan::test::world;
using model::ClipConfig;
using model::ClipModel;
using model::ClipPatches;
using model::ClipPlacement;
using model::ClipSharding;
using model::test::RandomClips;
using shard::ClipOrder;

/// One of the ways in which ranks share clips.
struct Way {
  const char* name;
  ClipSharding sharding = ClipSharding::kDynamic;
  ClipPlacement placement = ClipPlacement::kAlternating;
};
constexpr Way kWays[] = {
    {"DSP"},
    {"DSP, the stream by frame", ClipSharding::kDynamic, ClipPlacement::kFrames},
    {"DSP, the stream by place", ClipSharding::kDynamic, ClipPlacement::kPlaces},
    {"Ulysses on one axis", ClipSharding::kOneAxis},
    {"Ulysses on all tokens", ClipSharding::kFlattened},
    {"a ring", ClipSharding::kRing}};

comm::Communicator* group_of_all() { return world().size() > 1 ? &world() : nullptr; }

/// Gradients of one batch by a group of ranks, which may share parameters, too.
struct Run {
  Run(const ClipConfig& config, DType dtype, bool keeps_inputs_alone, comm::Communicator* ranks,
      int zero_stage)
      : group(ranks),
        model(config, dtype, *backend, keeps_inputs_alone,
              {.zero_stage = zero_stage, .ranks = ranks}) {
    model.parameters().initialise(5, 0.3);
    for (const nn::OwnRange& own : model.parameters().own_ranges()) {
      // Zeros would hide what they are multiplied with.
      const base::RandomStream stream(3, base::Purpose::kTest, 0,
                                      static_cast<std::uint64_t>(own.number));
      backend->random_normal(model.parameters().own_weight(own), stream, 0.3,
                             static_cast<std::uint64_t>(own.elements.begin));
    }
    model.parameters().gather_weights();
  }

  void run(const RandomClips& clips, bool skips_last_frames, const Way& way = kWays[0]) {
    nn::ParameterSet& parameters = model.parameters();
    parameters.start_gradients();
    parameters.start_last_pass();
    const model::ClipBatch batch =
        clips.batch(group, skips_last_frames, way.sharding, way.placement);
    const std::uint64_t before = sent();
    const model::LossResult result = model.forward_backward(batch, 0.1);
    exchanged = sent() - before;
    parameters.reduce_gradients();
    sums = {result.nll_sum, static_cast<double>(result.targets)};
    if (group != nullptr) group->all_reduce_sum(sums);
  }
  /// Of tokens that change ranks: bytes that this one sent.
  std::uint64_t sent() const {
    if (group == nullptr) return 0;
    const comm::Traffic traffic = group->traffic();
    return traffic[comm::Collective::kAllToAll] + traffic[comm::Collective::kSendReceive];
  }

  comm::Communicator* group;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  ClipModel model;
  std::vector<double> sums;
  std::uint64_t exchanged = 0;
};

bool is_no_norm_of_heads(const nn::Parameter& parameter) {
  return parameter.name.find("_norm.weight") == std::string::npos;
}

void check_same(Run& found, Run& expected, DType dtype) {
  const double tolerance = dtype == DType::kFloat64 ? 1e-11 : 1e-5;
  CHECK(found.sums[0] == Approx(expected.sums[0]).epsilon(tolerance));
  CHECK(found.sums[1] == expected.sums[1]);
  const auto distance = [&](bool (*counts)(const nn::Parameter&)) {
    return longspan::test::largest_distance(found.model.parameters(), /*weights=*/false,
                                            expected.model.parameters(), counts);
  };
  CHECK(distance(is_no_norm_of_heads) <= tolerance);
  // What scales queries and keys hardly matters to a softmax: its gradient cancels, and in float32
  // that of one rank is 1e-5 from float64's, too.
  CHECK(distance(nullptr) <= 3 * tolerance);
}

const std::vector<std::vector<ClipPatches>> kPacked{{{5, 7, 1}, {2, 3, 1}, {1, 1, 1}, {16, 1, 2}},
                                                    {{1, 4, 4}},
                                                    {{3, 1, 1}},
                                                    {{7, 2, 1}, {2, 16, 1}}};

TEST_CASE("clips on ranks: loss and every gradient are one rank's, at any extents") {
  const ClipConfig config = model::test::small_clip_config(2, GENERATE(false, true));
  const bool keeps_inputs_alone = GENERATE(false, true);
  const int zero_stage = keeps_inputs_alone ? 3 : 0;
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    Run expected(config, dtype, false, nullptr, 0);
    Run found(config, dtype, keeps_inputs_alone, group_of_all(), zero_stage);
    for (const std::vector<ClipPatches>& sizes : kPacked) {
      const RandomClips clips(config, sizes, 1);
      expected.run(clips, config.is_causal);
      for (const Way& way : kWays) {
        INFO(way.name);
        found.run(clips, config.is_causal, way);
        check_same(found, expected, dtype);
      }
    }
  }
}

TEST_CASE("clips on ranks: frames and places from 1 to 16, also fewer than ranks") {
  const ClipConfig config = model::test::small_clip_config(0, false);
  Run expected(config, DType::kFloat64, false, nullptr, 0);
  Run found(config, DType::kFloat64, false, group_of_all(), 0);
  const std::vector<Index> extents{1, 2, 3, 5, 7, 16};
  for (std::size_t number = 0; number < extents.size() * extents.size(); ++number) {
    const Index frames = extents[number / extents.size()];
    const Index places = extents[number % extents.size()];
    // Of the placements in which the stream stays where it is, in turn one.
    const ClipPlacement passed_over = (number / extents.size() + number) % 2 == 0
                                          ? ClipPlacement::kFrames
                                          : ClipPlacement::kPlaces;
    const RandomClips clips(config, {{frames, places, 1}}, 2);
    expected.run(clips, false);
    for (const Way& way : kWays) {
      if (way.placement == passed_over) continue;
      INFO(way.name << ", " << frames << " frames of " << places);
      found.run(clips, false, way);
      check_same(found, expected, DType::kFloat64);
    }
  }
}

TEST_CASE("clips on ranks: heads that ranks do not divide, or that are fewer") {
  ClipConfig config = model::test::small_clip_config(2, true);
  config.hidden_size = 12;
  for (const Index heads : {1, 2, 3}) {
    config.num_attention_heads = heads;
    Run expected(config, DType::kFloat64, false, nullptr, 0);
    Run found(config, DType::kFloat64, true, group_of_all(), 0);
    const RandomClips clips(config, {{3, 5, 1}, {4, 2, 2}}, 4);
    expected.run(clips, false);
    for (const Way& way : kWays) {
      INFO(way.name << ", " << heads << " heads");
      found.run(clips, false, way);
      check_same(found, expected, DType::kFloat64);
    }
  }
}

TEST_CASE("clips on ranks: a batch of none has no loss and no gradient") {
  const ClipConfig config = model::test::small_clip_config(2, false);
  Run run(config, DType::kFloat64, GENERATE(false, true), group_of_all(), 0);
  for (const Way& way : kWays) {
    run.run(RandomClips(config, {}, 1), false, way);
    CHECK(run.sums == std::vector<double>{0.0, 0.0});
    CHECK(run.backend->sum_of_squares(run.model.parameters().gradients()) == 0.0);
  }
}

/// Bytes that each rank sends of M numbers between blocks or around attention, where extents and
/// heads divide; `pairs` of blocks.
struct Volumes {
  std::uint64_t forward;
  std::uint64_t backward;
};
Volumes volumes_of(const Way& way, std::uint64_t numbers, std::uint64_t ranks,
                   std::uint64_t pairs) {
  const std::uint64_t whole = 4 * numbers;
  const std::uint64_t exchange = (ranks - 1) * whole / ranks / ranks;
  const std::uint64_t hop = ranks == 1 ? 0 : 2 * whole / ranks;  // of keys and values
  // Two switches a pair, but none before the first block where the stream itself switches.
  const std::uint64_t switches =
      way.placement == ClipPlacement::kAlternating ? 2 * pairs - 1 : 2 * pairs;
  switch (way.sharding) {
    case ClipSharding::kDynamic:
      return {switches * exchange, switches * exchange};
    case ClipSharding::kOneAxis:  // q, k, v and the output
      return {4 * pairs * exchange, 4 * pairs * exchange};
    case ClipSharding::kFlattened:
      return {8 * pairs * exchange, 8 * pairs * exchange};
    case ClipSharding::kRing:  // backward they go round again, and their gradients as far as home
      return {pairs * (ranks - 1) * hop, pairs * (2 * ranks - 1) * hop};
  }
  return {};
}

TEST_CASE("clips on ranks: bytes sent are the formulas', and DSP recomputes without any") {
  ClipConfig config = model::test::small_clip_config(0, false);
  config.hidden_size = 24;
  config.num_attention_heads = 12;
  const Index ranks = world().size();
  const RandomClips clips(config, {{2 * ranks, 3 * ranks, 1}}, 3);
  const auto pairs = static_cast<std::uint64_t>(config.num_hidden_layers);
  const auto numbers = static_cast<std::uint64_t>(6 * ranks * ranks * config.hidden_size);
  const auto volumes = [&](const Way& way) {
    return volumes_of(way, numbers, static_cast<std::uint64_t>(ranks), pairs);
  };
  for (const bool keeps_inputs_alone : {false, true}) {
    Run run(config, DType::kFloat32, keeps_inputs_alone, group_of_all(), 0);
    for (const Way& way : kWays) {
      INFO(way.name);
      const Volumes expected = volumes(way);
      const std::uint64_t before = run.sent();
      run.model.evaluate(clips.batch(run.group, false, way.sharding, way.placement));
      CHECK(run.sent() - before == expected.forward);
      run.run(clips, false, way);
      const bool sends_again = keeps_inputs_alone && way.sharding != ClipSharding::kDynamic;
      CHECK(run.exchanged ==
            expected.forward + (sends_again ? expected.forward : 0) + expected.backward);
    }
  }
  // A pair of blocks with both of its switches: half of Ulysses' on one axis, a quarter of that on
  // all tokens.
  const std::uint64_t pair =
      volumes({"", ClipSharding::kDynamic, ClipPlacement::kPlaces}).forward / pairs;
  CHECK(pair == volumes(kWays[0]).forward * 2 / (2 * pairs - 1));
  CHECK(2 * pair == volumes({"", ClipSharding::kOneAxis}).forward / pairs);
  CHECK(4 * pair == volumes({"", ClipSharding::kFlattened}).forward / pairs);
}

/// Of all clips' numbers, `each` a token, those that this rank holds, where the residual stream
/// lies as in blocks that attend in this order.
std::vector<float> held(const std::vector<float>& all, const shard::ClipLayout& layout,
                        ClipOrder attention, Index each) {
  std::vector<float> mine;
  if (all.empty()) return mine;
  const shard::Cover row = layout.row(layout.residual(attention));
  for (const shard::Range& range : row.ranges(world().rank())) {
    mine.insert(mine.end(), all.begin() + range.begin * each, all.begin() + range.end * each);
  }
  return mine;
}

TEST_CASE("clips on ranks: where only data move, predictions are one rank's bit for bit") {
  // Sums over so few columns have one order, however many rows a product has; long ones may not.
  const ClipConfig config = model::test::small_clip_config(2, true);
  Run expected(config, DType::kFloat32, false, nullptr, 0);
  Run found(config, DType::kFloat32, false, group_of_all(), 0);
  for (const std::vector<ClipPatches>& sizes : kPacked) {
    const RandomClips clips(config, sizes, 6);
    for (const Way& way : kWays) {
      if (way.sharding == ClipSharding::kRing) continue;
      INFO(way.name);
      std::vector<float> whole;
      expected.model.evaluate(clips.batch(nullptr, false, way.sharding, way.placement), &whole);
      std::vector<float> part;
      const model::ClipBatch batch = clips.batch(found.group, false, way.sharding, way.placement);
      found.model.evaluate(batch, &part);
      CHECK(part == held(whole, batch.layout(), ClipOrder::kByPlace, config.patch_numbers()));
    }
  }
}

TEST_CASE("clips on ranks: inputs, targets and what counts are cut as ranks hold them") {
  const data::Sprites source({.seed = 3, .clips = 50, .shapes = {{4, 3, 10, 12}, {3, 3, 8, 6}}});
  ClipConfig config;
  config.channels = 3;
  config.patch_size = 2;
  config.num_classes = data::Sprites::kForms;
  const std::vector<ClipSample> samples{{7, 0}, {8, 1}, {9, 2}, {10, 3}};
  const auto each = config.patch_numbers();
  for (const ClipObjective objective : {ClipObjective::kNextFrame, ClipObjective::kRectifiedFlow}) {
    for (const Way& way : kWays) {
      INFO(way.name);
      const auto batch = [&](comm::Communicator* group) {
        return clip_batch(source, config, objective, samples, 5, 2, group,
                          {way.sharding, way.placement});
      };
      const model::ClipBatch whole = batch(nullptr);
      const model::ClipBatch part = batch(group_of_all());
      const shard::ClipLayout layout = part.layout();
      CHECK(part.inputs == held(whole.inputs, layout, ClipOrder::kByFrame, each));
      CHECK(part.targets == held(whole.targets, layout, ClipOrder::kByPlace, each));
      CHECK(part.counts == held(whole.counts, layout, ClipOrder::kByPlace, 1));
      CHECK(part.times == whole.times);
      CHECK(part.classes == whole.classes);
      CHECK(part.sharding == way.sharding);
      CHECK(part.placement == way.placement);
    }
  }
}

}  // namespace
}  // namespace longspan::train
