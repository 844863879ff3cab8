// What checkpointing and mini-sequences compute twice, counted on the dry backend.
#include <catch2/catch.hpp>

#include "longspan/backend/dry.h"
#include "tests/model/fixture.h"

namespace longspan::model {
namespace {

using backend::DryBackend;
using base::DType;

constexpr double kTokens = 48;

backend::DryCounts counts_of(const ModelConfig& config, const std::string& checkpointing,
                             const std::string& mlp, const std::string& lm_head) {
  DryBackend dry(backend::DeviceProfile::load("h200"), 1);
  Decoder decoder(
      config, DType::kBFloat16, dry,
      MemoryPolicy::parse(checkpointing, mlp, lm_head, config.num_hidden_layers, "memory"));
  dry.start_step();
  test::run(decoder, test::random_batch(config, {static_cast<std::int32_t>(kTokens)}, 1), 1.0);
  return dry.counts();
}

/// FLOPs of one forward, worked out from the shapes.
struct Forward {
  explicit Forward(const ModelConfig& config) : c(config) {}

  ModelConfig c;
  double parts = c.model_type == "gpt2" ? 1 : 2;  // of the up-projection: gate and up, or one
  double layers = static_cast<double>(c.num_hidden_layers);
  double hidden = static_cast<double>(c.hidden_size);
  double heads = static_cast<double>(c.num_attention_heads * c.head_dim);
  double kv = static_cast<double>(c.num_key_value_heads * c.head_dim);
  double inner = static_cast<double>(c.intermediate_size);

  double qkv = layers * 2 * kTokens * hidden * (heads + 2 * kv);
  double output = layers * 2 * kTokens * hidden * heads;
  double up = layers * 2 * kTokens * hidden * parts * inner;
  double down = layers * 2 * kTokens * hidden * inner;
  double head = 2 * kTokens * hidden * static_cast<double>(c.vocab_size);
  double attention = layers * 4 * heads * kTokens * (kTokens + 1) / 2;

  double blocks() const { return qkv + output + up + down; }
};

TEST_CASE("keeping everything: a forward, and a backward of twice its products") {
  const Forward forward(GENERATE(test::small_config(false), test::small_gpt2()));
  const auto counts = counts_of(forward.c, "none", "none", "1");
  CHECK(counts.matmul_flops == 3 * (forward.blocks() + forward.head));
  CHECK(counts.attention_flops == 3.5 * forward.attention);
}

TEST_CASE("checkpointing with mini-sequences: one more forward of the blocks, nothing twice") {
  const Forward forward(GENERATE(test::small_config(false), test::small_gpt2()));
  const auto kept = counts_of(forward.c, "none", "none", "1");
  const std::string ranges = GENERATE("none", "auto", "1", "5", "48", "1KiB");
  const std::string lm_head = GENERATE("auto", "1", "7", "48", "1KiB");
  INFO("mlp " << ranges << ", lm_head " << lm_head);
  // The down projection's result is no backward's input, so not even that is computed again.
  const double again = forward.blocks() - forward.down;
  const auto block = counts_of(forward.c, "block", ranges, lm_head);
  CHECK(block.matmul_flops == kept.matmul_flops + again);
  CHECK(block.attention_flops == kept.attention_flops + forward.attention);

  const auto output = counts_of(forward.c, "block_keep_attention", ranges, lm_head);
  CHECK(output.matmul_flops == kept.matmul_flops + again);
  CHECK(output.attention_flops == kept.attention_flops);
}

TEST_CASE("mini-sequences alone: the up-projection once more") {
  const Forward forward(GENERATE(test::small_config(false), test::small_gpt2()));
  const auto kept = counts_of(forward.c, "none", "none", "1");
  const std::string ranges = GENERATE("1", "5", "1KiB");
  const auto counts = counts_of(forward.c, "none", ranges, "3");
  CHECK(counts.matmul_flops == kept.matmul_flops + forward.up);
  CHECK(counts.attention_flops == kept.attention_flops);
  CHECK(counts_of(forward.c, "none", "auto", "auto").matmul_flops == kept.matmul_flops);
}

TEST_CASE("the head does no work for labels that are ignored") {
  const ModelConfig config = GENERATE(test::small_config(false), test::small_gpt2());
  const Forward forward(config);
  const auto flops = [&](int counted) {
    DryBackend dry(backend::DeviceProfile::load("h200"), 1);
    Decoder decoder(config, DType::kBFloat16, dry);
    test::Batch batch = test::random_batch(config, {static_cast<std::int32_t>(kTokens)}, 1);
    for (std::size_t t = 0; t < batch.labels.size(); ++t) {
      if (static_cast<int>(t * 5 % 48) >= counted) batch.labels[t] = backend::kIgnoredLabel;
    }
    dry.start_step();
    test::run(decoder, batch, 1.0);
    return dry.counts().matmul_flops;
  };
  CHECK(flops(48) - flops(12) == 3 * forward.head * 36 / 48);
  CHECK(flops(48) - flops(0) == 3 * forward.head);
}

}  // namespace
}  // namespace longspan::model
