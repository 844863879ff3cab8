// The spatial-temporal model on ranks that share clips (DSP), against one rank that has them all.
#include <catch2/catch.hpp>

#include "longspan/model/clip_model.h"
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
using model::test::RandomClips;

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

  void run(const RandomClips& clips, bool skips_last_frames) {
    nn::ParameterSet& parameters = model.parameters();
    parameters.start_gradients();
    parameters.start_last_pass();
    const model::ClipBatch batch = clips.batch(group, skips_last_frames);
    const std::uint64_t before = group == nullptr ? 0 : sent();
    const model::LossResult result = model.forward_backward(batch, 0.1);
    switched = group == nullptr ? 0 : sent() - before;
    parameters.reduce_gradients();
    sums = {result.nll_sum, static_cast<double>(result.targets)};
    if (group != nullptr) group->all_reduce_sum(sums);
  }
  std::uint64_t sent() const { return group->traffic()[comm::Collective::kAllToAll]; }

  comm::Communicator* group;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  ClipModel model;
  std::vector<double> sums;
  std::uint64_t switched = 0;
};

void check_same(Run& found, Run& expected, double tolerance) {
  CHECK(found.sums[0] == Approx(expected.sums[0]).epsilon(tolerance));
  CHECK(found.sums[1] == expected.sums[1]);
  CHECK(longspan::test::largest_distance(found.model.parameters(), /*weights=*/false,
                                         expected.model.parameters()) <= tolerance);
}

comm::Communicator* group_of_all() { return world().size() > 1 ? &world() : nullptr; }

TEST_CASE("clips on ranks: loss and every gradient are one rank's, at any extents") {
  const ClipConfig config = model::test::small_clip_config(2, GENERATE(false, true));
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    const double tolerance = dtype == DType::kFloat64 ? 1e-11 : 1e-5;
    for (const bool keeps_inputs_alone : {false, true}) {
      for (const int stage : {0, 3}) {
        Run expected(config, dtype, keeps_inputs_alone, nullptr, 0);
        Run found(config, dtype, keeps_inputs_alone, group_of_all(), stage);
        for (const std::vector<ClipPatches>& sizes :
             {std::vector<ClipPatches>{{5, 7, 1}, {2, 3, 1}, {1, 1, 1}, {16, 1, 2}},
              std::vector<ClipPatches>{{1, 4, 4}}, std::vector<ClipPatches>{{3, 1, 1}},
              std::vector<ClipPatches>{{7, 2, 1}, {2, 16, 1}}}) {
          const RandomClips clips(config, sizes, 1);
          expected.run(clips, config.is_causal);
          found.run(clips, config.is_causal);
          check_same(found, expected, tolerance);
        }
      }
    }
  }
}

TEST_CASE("clips on ranks: frames and places from 1 to 16, also fewer than ranks") {
  const ClipConfig config = model::test::small_clip_config(0, false);
  Run expected(config, DType::kFloat64, false, nullptr, 0);
  Run found(config, DType::kFloat64, false, group_of_all(), 0);
  for (const Index frames : {1, 2, 3, 5, 7, 16}) {
    for (const Index places : {1, 2, 3, 5, 7, 16}) {
      INFO(frames << " frames of " << places);
      const RandomClips clips(config, {{frames, places, 1}}, 2);
      expected.run(clips, false);
      found.run(clips, false);
      check_same(found, expected, 1e-11);
    }
  }
}

TEST_CASE("clips on ranks: a switch before and behind every block but at the ends, none again") {
  const ClipConfig config = model::test::small_clip_config(0, false);
  const Index ranks = world().size();
  const RandomClips clips(config, {{2 * ranks, 3 * ranks, 1}}, 3);
  for (const bool keeps_inputs_alone : {false, true}) {
    Run run(config, DType::kFloat32, keeps_inputs_alone, group_of_all(), 0);
    run.run(clips, false);
    // (N - 1) / N^2 of all tokens a switch; 2 L - 1 of them forward, and as many backward.
    const Index tokens = 6 * ranks * ranks;
    const Index each = tokens * config.hidden_size * 4 * (ranks - 1) / ranks / ranks;
    const Index switches = 2 * (2 * config.num_hidden_layers - 1);
    CHECK(run.switched == static_cast<std::uint64_t>(each * switches));
  }
}

}  // namespace
}  // namespace longspan::train
