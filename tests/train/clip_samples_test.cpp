// Sampling with models whose answers are known: a bias and nothing else.
#include "train/clip_samples.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "tests/model/clip_bench.h"
#include "tests/model/fixture.h"

namespace longspan::train {
namespace {

using data::ClipShape;

model::ClipConfig config_of(std::int64_t channels) {
  model::ClipConfig config = model::test::small_clip_config(2, true);
  config.channels = channels;
  config.patch_size = 2;
  return config;
}

/// Predicts `bias` for every number; or, with random weights, anything.
struct Bench {
  Bench(const model::ClipConfig& config, double bias, bool is_random = false)
      : model(config, base::DType::kFloat64, *backend) {
    const base::RandomStream stream(3, base::Purpose::kTest, 0, 0);
    if (is_random) backend->random_normal(model.parameters().weights(), stream, 0.3, 0);
    for (const nn::Parameter& parameter : model.parameters().parameters()) {
      if (parameter.name != "last.head.bias") continue;
      auto* weights = model.parameters().weights().data<double>() + parameter.offset;
      std::fill_n(weights, parameter.shape.elements(), bias);
      is_set = true;
    }
    REQUIRE(is_set);
  }

  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  model::ClipModel model;
  bool is_set = false;
};

WholeClip clip_of(const ClipShape& shape, std::int32_t label, float first) {
  WholeClip clip{shape, label, {}};
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    clip.numbers.push_back(first + static_cast<float>(i) / 1024.0F);
  }
  return clip;
}

TEST_CASE("clip samples: along a constant velocity the noise moves by it, in however many steps") {
  const std::vector<WholeClip> wishes{{{3, 2, 4, 6}, 0, {}}, {{3, 2, 4, 6}, 1, {}}};
  Bench still(config_of(2), 0.0);
  const auto noise = sample_flow(still.model, wishes, 1, 7);
  CHECK(noise[0].numbers != noise[1].numbers);
  Bench moving(config_of(2), 0.5);
  for (const std::int64_t steps : {1, 5}) {
    const auto samples = sample_flow(moving.model, wishes, steps, 7);
    for (std::size_t clip = 0; clip < 2; ++clip) {
      REQUIRE(samples[clip].numbers.size() == 3 * 2 * 4 * 6);
      for (std::size_t i = 0; i < samples[clip].numbers.size(); ++i) {
        REQUIRE(samples[clip].numbers[i] == Approx(noise[clip].numbers[i] + 0.5F).margin(1e-5));
      }
    }
  }
  CHECK(sample_flow(still.model, wishes, 1, 8)[0].numbers != noise[0].numbers);
  // Clips of other lengths beside each other.
  const auto unlike = sample_flow(moving.model, {{{1, 2, 2, 2}, 0, {}}, wishes[1]}, 2, 7);
  REQUIRE(unlike[1].numbers.size() == noise[1].numbers.size());
  for (std::size_t i = 0; i < unlike[1].numbers.size(); ++i) {
    REQUIRE(unlike[1].numbers[i] == Approx(noise[1].numbers[i] + 0.5F).margin(1e-5));
  }
}

TEST_CASE("clip samples: frames go on from those given by the change that is predicted") {
  Bench bench(config_of(3), 0.25);
  const std::vector<WholeClip> clips{clip_of({5, 3, 4, 6}, 0, 0.0F),
                                     clip_of({3, 3, 2, 2}, 1, -1.0F)};
  const auto continued = continue_frames(bench.model, clips, 2);
  for (std::size_t clip = 0; clip < 2; ++clip) {
    const ClipShape& shape = clips[clip].shape;
    const auto frame = static_cast<std::size_t>(shape.elements() / shape.frames);
    for (std::size_t i = 0; i < clips[clip].numbers.size(); ++i) {
      const float expected =
          i < 2 * frame ? clips[clip].numbers[i] : continued[clip].numbers[i - frame] + 0.25F;
      REQUIRE(continued[clip].numbers[i] == Approx(expected).margin(1e-5));
    }
  }
}

TEST_CASE("clip samples: those beside a clip do not matter to it") {
  Bench bench(config_of(2), 0.1, /*is_random=*/true);
  const WholeClip one = clip_of({4, 2, 4, 4}, 1, 0.0F);
  const WholeClip other = clip_of({6, 2, 2, 4}, 0, -0.5F);
  const auto together = continue_frames(bench.model, {one, other}, 1);
  CHECK(together[0].numbers != one.numbers);
  for (const auto& [clip, found] : {std::pair{one, together[0]}, std::pair{other, together[1]}}) {
    const auto alone = continue_frames(bench.model, {clip}, 1);
    for (std::size_t i = 0; i < found.numbers.size(); ++i) {
      REQUIRE(found.numbers[i] == Approx(alone[0].numbers[i]).margin(1e-5));
    }
  }
}

TEST_CASE("clip samples: shapes that are not the model's are refused") {
  Bench bench(config_of(2), 0.0);
  CHECK_THROWS_AS(sample_flow(bench.model, {{{3, 3, 4, 6}, 0, {}}}, 1, 1), base::InputError);
  CHECK_THROWS_AS(sample_flow(bench.model, {{{3, 2, 5, 6}, 0, {}}}, 1, 1), base::InputError);
}

TEST_CASE("clip samples: a picture has them side by side") {
  WholeClip grey{{1, 1, 1, 2}, 0, {-1.0F, 3.0F}};
  const data::Animation one = animation_of({grey}, 4, 2);
  CHECK(one.width == 4);
  CHECK(one.height == 2);
  CHECK(one.frames ==
        std::vector<std::vector<std::uint8_t>>{{0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255,
                                                0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255}});
  WholeClip colour{{2, 3, 1, 1}, 0, {-1.0F, 0.0F, 1.0F, 1.0F, 1.0F, -1.0F}};
  const data::Animation three = animation_of({colour, colour, colour}, 2, 1);
  CHECK(three.width == 4);
  CHECK(three.height == 4);
  REQUIRE(three.frames.size() == 2);
  CHECK(std::vector<std::uint8_t>(three.frames[0].begin(), three.frames[0].begin() + 6) ==
        std::vector<std::uint8_t>{0, 128, 255, 255, 255, 255});
  CHECK(three.frames[1][2] == 0);
}

}  // namespace
}  // namespace longspan::train
