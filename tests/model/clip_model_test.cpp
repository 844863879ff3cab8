// The spatial-temporal model on one rank: gradients against finite differences, packing,
// recomputation.
#include "longspan/model/clip_model.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "tests/model/clip_bench.h"
#include "tests/model/fixture.h"
#include "tests/support/relative_distance.h"

namespace longspan::model {
namespace {

using backend::Index;
using backend::Tensor;
using base::DType;
using test::RandomClips;

/// With values that are all at work, none of them zero.
struct Bench {
  explicit Bench(const ClipConfig& config, bool keeps_inputs_alone = false,
                 DType dtype = DType::kFloat64)
      : model(config, dtype, *backend, keeps_inputs_alone) {
    const base::RandomStream stream(3, base::Purpose::kTest, 0, 0);
    backend->random_normal(model.parameters().weights(), stream, 0.3, 0);
  }

  double run(const ClipBatch& batch) {
    model.parameters().start_gradients();
    model.parameters().start_last_pass();
    const double sum = model.forward_backward(batch, 0.1).nll_sum;
    model.parameters().reduce_gradients();
    return sum;
  }
  std::vector<double> gradients() { return test::values(*backend, model.parameters().gradients()); }

  std::unique_ptr<backend::Backend> backend = test::make_backend();
  ClipModel model;
};

const std::vector<ClipPatches> kSizes{{3, 2, 1}, {2, 1, 2}, {1, 2, 2}};

TEST_CASE("clips: every parameter's gradient is the loss's slope") {
  const std::int64_t classes = GENERATE(0, 2);
  const bool is_causal = GENERATE(false, true);
  Bench bench(test::small_clip_config(classes, is_causal));
  const ClipBatch batch = RandomClips(bench.model.config(), kSizes, 1).batch(nullptr, is_causal);
  bench.run(batch);
  const std::vector<double> gradients = bench.gradients();
  const Tensor weights = bench.model.parameters().weights();
  auto* values = weights.data<double>();
  int looked_at = 0;
  for (const nn::Parameter& parameter : bench.model.parameters().parameters()) {
    INFO(parameter.name);
    // Of large ones some: their elements are alike.
    const Index elements = parameter.shape.elements();
    for (Index i = 0; i < elements; i += 1 + elements / 40) {
      const Index at = parameter.offset + i;
      const double before = values[at];
      const auto loss = [&](double change) {
        values[at] = before + change;
        return 0.1 * bench.model.evaluate(batch).nll_sum;
      };
      constexpr double kStep = 1e-5;
      const double slope = (loss(kStep) - loss(-kStep)) / (2 * kStep);
      values[at] = before;
      REQUIRE(gradients[static_cast<std::size_t>(at)] == Approx(slope).epsilon(1e-5).margin(1e-6));
      ++looked_at;
    }
  }
  CHECK(looked_at > 500);
}

TEST_CASE("clips: what keeps its input alone has the same loss and gradients") {
  for (const std::int64_t classes : {0, 2}) {
    const ClipConfig config = test::small_clip_config(classes, true);
    Bench all(config);
    Bench again(config, /*keeps_inputs_alone=*/true);
    const ClipBatch batch = RandomClips(config, kSizes, 2).batch(nullptr);
    CHECK(again.run(batch) == Approx(all.run(batch)).epsilon(1e-12));
    const std::vector<double> expected = all.gradients();
    const std::vector<double> found = again.gradients();
    for (std::size_t i = 0; i < found.size(); ++i) {
      REQUIRE(found[i] == Approx(expected[i]).epsilon(1e-9).margin(1e-12));
    }
  }
}

TEST_CASE("clips: wherever the residual stream lies, loss and gradients are the same") {
  const ClipConfig config = test::small_clip_config(2, true);
  Bench expected(config);
  Bench found(config, /*keeps_inputs_alone=*/GENERATE(false, true));
  const RandomClips clips(config, kSizes, 2);
  const double loss = expected.run(clips.batch(nullptr, /*skips_last_frames=*/true));
  for (const ClipPlacement placement : {ClipPlacement::kFrames, ClipPlacement::kPlaces}) {
    const ClipBatch batch = clips.batch(nullptr, true, ClipSharding::kDynamic, placement);
    CHECK(found.run(batch) == Approx(loss).epsilon(1e-12));
    CHECK(longspan::test::relative_distance(found.gradients(), expected.gradients()) < 1e-12);
  }
}

TEST_CASE("clips: in bfloat16 loss and gradients are float32's, but for rounding") {
  const ClipConfig config = test::small_clip_config(2, false);
  Bench exact(config, /*keeps_inputs_alone=*/false, DType::kFloat32);
  Bench rounded(config, /*keeps_inputs_alone=*/true, DType::kBFloat16);
  const ClipBatch batch = RandomClips(config, kSizes, 2).batch(nullptr);
  CHECK(rounded.run(batch) == Approx(exact.run(batch)).epsilon(0.02));
  CHECK(longspan::test::relative_distance(rounded.gradients(), exact.gradients()) < 0.05);
}

TEST_CASE("clips: packed they know nothing of each other") {
  const ClipConfig config = test::small_clip_config(2, false);
  Bench bench(config);
  const RandomClips packed(config, kSizes, 4);
  const double together = bench.run(packed.batch(nullptr));
  const std::vector<double> expected = bench.gradients();
  std::vector<double> sums(expected.size());
  double apart = 0;
  for (std::size_t clip = 0; clip < kSizes.size(); ++clip) {
    RandomClips one = packed;
    one.clips = {packed.clips[clip]};
    one.inputs = {packed.inputs[clip]};
    one.targets = {packed.targets[clip]};
    one.times = {packed.times[clip]};
    one.classes = {packed.classes[clip]};
    apart += bench.run(one.batch(nullptr));
    const std::vector<double> found = bench.gradients();
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += found[i];
  }
  CHECK(apart == Approx(together).epsilon(1e-12));
  for (std::size_t i = 0; i < sums.size(); ++i) {
    REQUIRE(sums[i] == Approx(expected[i]).epsilon(1e-9).margin(1e-12));
  }
}

TEST_CASE("clips: along time a causal model sees no later frame, the other one does") {
  for (const bool is_causal : {false, true}) {
    const ClipConfig config = test::small_clip_config(0, is_causal);
    Bench bench(config);
    RandomClips clips(config, {{4, 2, 2}}, 5);
    std::vector<float> before;
    bench.model.evaluate(clips.batch(nullptr), &before);
    const std::int64_t frame = 4 * config.patch_numbers();
    for (std::int64_t i = 2 * frame; i < 3 * frame; ++i) {
      clips.inputs[0][static_cast<std::size_t>(i)] += 1.0F;  // of frame 2
    }
    std::vector<float> after;
    bench.model.evaluate(clips.batch(nullptr), &after);
    for (std::int64_t place = 0; place < 4; ++place) {
      for (std::int64_t t = 0; t < 4; ++t) {
        bool changed = false;
        for (std::int64_t i = 0; i < config.patch_numbers(); ++i) {
          const auto at = static_cast<std::size_t>((place * 4 + t) * config.patch_numbers() + i);
          changed = changed || before[at] != after[at];
        }
        CHECK(changed == (!is_causal || t >= 2));
      }
    }
  }
}

TEST_CASE("clips: what does not fit is refused") {
  ClipConfig config = test::small_clip_config(2, false);
  Bench bench(config);
  ClipBatch batch = RandomClips(config, kSizes, 1).batch(nullptr);
  batch.classes[1] = 2;
  CHECK_THROWS_AS(bench.model.evaluate(batch), base::InputError);
  batch.classes.pop_back();
  CHECK_THROWS_AS(bench.model.evaluate(batch), base::InternalError);
  config.num_attention_heads = 3;
  CHECK_THROWS_AS(Bench(config), base::InputError);
}

}  // namespace
}  // namespace longspan::model
