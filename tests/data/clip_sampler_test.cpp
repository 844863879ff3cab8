#include "longspan/data/clip_sampler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

TEST_CASE("a sampler of clips: every epoch has each clip once, in an order of its own") {
  constexpr std::int64_t kClips = 10;
  ClipSampler sampler(kClips, 4, 7);
  std::vector<std::int64_t> all;
  for (std::int64_t step = 0; step < 5; ++step) {
    const auto clips = sampler.clips(step);
    REQUIRE(clips.size() == 4);
    all.insert(all.end(), clips.begin(), clips.end());
  }
  const std::vector<std::int64_t> first(all.begin(), all.begin() + kClips);
  const std::vector<std::int64_t> second(all.begin() + kClips, all.end());
  CHECK(first != second);
  std::vector<std::int64_t> every(kClips);
  std::iota(every.begin(), every.end(), 0);
  CHECK(first != every);
  for (std::vector<std::int64_t> epoch : {first, second}) {
    std::sort(epoch.begin(), epoch.end());
    CHECK(epoch == every);
  }
}

TEST_CASE("a sampler of clips: a step does not depend on those asked for before, but on the seed") {
  ClipSampler sampler(5, 3, 7);
  const auto later = sampler.clips(9);
  sampler.clips(0);
  CHECK(sampler.clips(9) == later);
  CHECK(ClipSampler(5, 3, 7).clips(9) == later);
  CHECK(ClipSampler(1000, 3, 7).clips(0) != ClipSampler(1000, 3, 8).clips(0));
  // A step may be longer than an epoch.
  const auto many = ClipSampler(2, 5, 1).clips(0);
  CHECK(std::count(many.begin(), many.begin() + 4, 0) == 2);
  CHECK_THROWS_AS(ClipSampler(0, 1, 1), base::InternalError);
  CHECK_THROWS_AS(ClipSampler(1, 0, 1), base::InternalError);
}

}  // namespace
}  // namespace longspan::data
