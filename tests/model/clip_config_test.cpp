#include "longspan/model/clip_config.h"

#include <catch2/catch.hpp>

#include "longspan/backend/dry.h"
#include "longspan/model/clip_model.h"
#include "tests/model/clip_bench.h"

namespace longspan::model {
namespace {

TEST_CASE("clips: model FLOPs are those that the model's own step has") {
  const std::int64_t classes = GENERATE(0, 3);
  const bool is_causal = GENERATE(false, true);
  ClipConfig config = test::small_clip_config(classes, is_causal);
  config.hidden_size = 32;
  config.intermediate_size = 48;
  backend::DryBackend dry(backend::DeviceProfile::load("h200"), 1);
  ClipModel model(config, base::DType::kFloat32, dry);
  const std::vector<ClipPatches> sizes = {{5, 2, 3}, {3, 4, 4}};
  const test::RandomClips clips(config, sizes, 1);
  dry.start_step();
  model.parameters().start_gradients();
  model.parameters().start_last_pass();
  model.forward_backward(clips.batch(nullptr), 1.0);
  const backend::DryCounts counts = dry.counts();
  double flops = 0;
  for (const ClipPatches& size : sizes) {
    flops += config.training_flops(size.frames, size.grid().places);
  }
  // Of attention the device computes forward again in the backward: 4 + 10 where the model has 12.
  CHECK(flops == Approx(counts.matmul_flops + counts.attention_flops * 12 / 14).epsilon(1e-12));
}

}  // namespace
}  // namespace longspan::model
