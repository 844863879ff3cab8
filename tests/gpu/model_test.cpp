#include <catch2/catch.hpp>

#include "longspan/backend/cuda.h"
#include "longspan/backend/dry.h"
#include "longspan/base/error.h"
#include "longspan/model/decoder.h"
#include "tests/gpu/sides.h"
#include "tests/model/fixture.h"

// A whole model on the cuda backend against the cpu's: the loss and every gradient.
namespace longspan::test {
namespace {

using backend::kMemoryTags;
using backend::MemoryTag;
using base::DType;
using model::Decoder;
using model::MemoryPolicy;
using model::ModelConfig;
using model::test::Batch;

struct Outcome {
  double nll_sum = 0;
  double evaluated = 0;
  std::map<std::string, std::vector<double>> gradients;
};

/// Two micro-batches, so that gradients are added to as well.
Outcome train(backend::Backend& backend, DType dtype, const MemoryPolicy& memory,
              const ModelConfig& config, const Batch& batch, backend::Backend* host = nullptr) {
  Decoder decoder(config, dtype, backend, memory, {}, host);
  decoder.parameters().initialise(5, 0.3);
  decoder.parameters().start_gradients();
  Outcome outcome;
  outcome.nll_sum += model::test::run(decoder, batch, 0.1).nll_sum;
  outcome.nll_sum += model::test::run(decoder, batch.document(0), 0.1).nll_sum;
  decoder.parameters().settle_gradients();
  outcome.gradients = model::test::gradients(backend, decoder);
  outcome.evaluated = decoder.evaluate(batch).nll_sum;
  return outcome;
}

void check_same(const Outcome& found, const Outcome& expected, double tolerance) {
  CHECK(found.nll_sum == Approx(expected.nll_sum).epsilon(tolerance));
  CHECK(found.evaluated == Approx(expected.evaluated).epsilon(tolerance));
  for (const auto& [name, gradient] : expected.gradients) {
    INFO(name);
    CHECK(relative_distance(found.gradients.at(name), gradient) <= tolerance);
  }
}

/// That gradients are no further from the exact ones than twice as far as the other's, or than the
/// tolerance: where more cancels than that allows, two that are rounded on their own ways differ.
void check_as_good(const Outcome& found, const Outcome& other, const Outcome& exact,
                   double tolerance) {
  CHECK(found.nll_sum == Approx(other.nll_sum).epsilon(tolerance));
  CHECK(found.evaluated == Approx(other.evaluated).epsilon(tolerance));
  for (const auto& [name, gradient] : exact.gradients) {
    INFO(name);
    const double most = 2.0 * relative_distance(other.gradients.at(name), gradient);
    CHECK(relative_distance(found.gradients.at(name), gradient) <= std::max(tolerance, most));
  }
}

Batch some_batch() {
  return model::test::random_batch(model::test::small_config(true), {17, 1, 0, 40, 9}, 1);
}

MemoryPolicy policy(const std::string& level, const std::string& ranges,
                    const ModelConfig& config) {
  return MemoryPolicy::parse(level, ranges, ranges, config.num_hidden_layers, "memory");
}

TEST_CASE("gpu: loss and every gradient of a model are the cpu's") {
  const auto [dtype, tolerance] =
      GENERATE(std::pair{DType::kFloat64, 1e-10}, std::pair{DType::kFloat32, 1e-5},
               std::pair{DType::kBFloat16, 0.05});
  const ModelConfig config = GENERATE(from_range(model::test::small_configs()));
  const char* level = GENERATE("none", "block", "block_keep_attention");
  INFO(config.model_type << ", " << base::name_of(dtype) << ", " << level);
  const Batch batch = some_batch();
  const MemoryPolicy memory = policy(level, "3", config);
  const Outcome found = train(cuda_side().backend(), dtype, memory, config, batch);
  const Outcome expected = train(cpu_side().backend(), dtype, memory, config, batch);
  const bool is_usual =
      config.model_type == "llama" || config.model_type == "gpt2" || config.model_type == "qwen2";
  if (dtype != DType::kBFloat16 || is_usual) return check_same(found, expected, tolerance);
  const Outcome exact = train(cpu_side().backend(), DType::kFloat64, memory, config, batch);
  check_as_good(found, expected, exact, tolerance);
}

TEST_CASE("gpu: checkpointing, and inputs that wait on the host, change no bit") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const ModelConfig config = GENERATE(model::test::small_config(false), model::test::small_gpt2());
  const Batch batch = some_batch();
  auto& backend = cuda_side().backend();
  const Outcome kept = train(backend, dtype, policy("none", "1", config), config, batch);
  const auto host = backend::make_pinned_backend(std::size_t{1} << 20U);
  for (const char* level : {"block", "block_keep_attention"}) {
    for (backend::Backend* where : {static_cast<backend::Backend*>(nullptr), host.get()}) {
      INFO(level);
      auto memory = policy(level, "1", config);
      if (where != nullptr) {
        memory.set_slots(model::SlotTexts::all("host"), "memory.saved_inputs",
                         /*may_be_absent=*/true);
      }
      const Outcome again = train(backend, dtype, memory, config, batch, where);
      CHECK(again.nll_sum == kept.nll_sum);
      CHECK(again.gradients == kept.gradients);
    }
  }
  CHECK(host->ledger().peak_total() > 0);
  CHECK(host->ledger().live_total() == 0);
}

TEST_CASE("gpu: slots in parts, on the host and made again, give the gradients of those kept") {
  const ModelConfig config = GENERATE(model::test::small_config(false), model::test::small_gpt2());
  const Batch batch = some_batch();
  auto& backend = cuda_side().backend();
  auto memory = MemoryPolicy::parse("none", "none", "1", config.num_hidden_layers, "memory");
  const Outcome kept = train(backend, DType::kFloat32, memory, config, batch);
  const auto host = backend::make_pinned_backend(std::size_t{1} << 20U);
  memory.set_slots(model::SlotTexts::all("0.3 host | 0.3 full | host"), "memory.saved_inputs",
                   /*may_be_absent=*/false);
  const Outcome parts = train(backend, DType::kFloat32, memory, config, batch, host.get());
  CHECK(parts.nll_sum == kept.nll_sum);
  CHECK(parts.gradients == kept.gradients);

  const std::string again = "0.4 host | recompute";
  memory.set_slots({"host", "0.5 full | host", again, "host", again}, "memory.saved_inputs",
                   /*may_be_absent=*/false);
  check_same(train(backend, DType::kFloat32, memory, config, batch, host.get()), kept, 1e-5);
  CHECK(host->ledger().live_total() == 0);
}

TEST_CASE("gpu: slots in 8-bit codes, rounded at random, give the cpu's gradients") {
  const ModelConfig config = GENERATE(model::test::small_config(false), model::test::small_gpt2());
  const char* level = GENERATE("none", "block", "block_keep_attention");
  const Batch batch = some_batch();
  auto memory = MemoryPolicy::parse(level, "none", "1", config.num_hidden_layers, "memory");
  memory.set_slots(model::SlotTexts::all("int8"), "memory.saved_inputs", /*may_be_absent=*/true,
                   nn::SavePolicy::Rounding::kStochastic);
  const Outcome found = train(cuda_side().backend(), DType::kFloat64, memory, config, batch);
  const Outcome again = train(cuda_side().backend(), DType::kFloat64, memory, config, batch);
  CHECK(found.gradients == again.gradients);
  const Outcome expected = train(cpu_side().backend(), DType::kFloat64, memory, config, batch);
  check_same(found, expected, 1e-10);
}

TEST_CASE("gpu: the same bits in every run") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const ModelConfig config = GENERATE(model::test::small_config(true), model::test::small_gpt2());
  const Batch batch = some_batch();
  auto& backend = cuda_side().backend();
  const Outcome first = train(backend, dtype, policy("block", "2", config), config, batch);
  const Outcome second = train(backend, dtype, policy("block", "2", config), config, batch);
  CHECK(first.nll_sum == second.nll_sum);
  CHECK(first.gradients == second.gradients);
}

TEST_CASE("gpu: a dry run keeps the ledger of the device, and finds its gaps") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32, DType::kBFloat16);
  const char* level = GENERATE("none", "block", "block_keep_attention");
  ModelConfig config = GENERATE(model::test::small_config(true), model::test::small_gpt2());
  config.head_dim = 8;  // cuDNN does multiples of it
  config.hidden_size = config.num_attention_heads * config.head_dim;
  const Batch batch = some_batch();
  constexpr std::size_t kLimit = std::size_t{128} << 20U;
  const auto device = backend::make_cuda_backend(0, kLimit);
  backend::DryBackend dry(backend::DeviceProfile::load("h200"), 1);
  for (backend::Backend* backend : {device.get(), static_cast<backend::Backend*>(&dry)}) {
    Decoder decoder(config, dtype, *backend, policy(level, "3", config));
    decoder.parameters().initialise(5, 0.3);
    decoder.parameters().start_gradients();
    model::test::run(decoder, batch, 0.1);
    decoder.parameters().settle_gradients();
    decoder.parameters().gradient_squares();
  }
  CHECK(device->ledger().peak_total() == dry.ledger().peak_total());
  for (std::size_t tag = 0; tag < kMemoryTags; ++tag) {
    INFO(name_of(static_cast<MemoryTag>(tag)));
    CHECK(device->ledger().peak(static_cast<MemoryTag>(tag)) ==
          dry.ledger().peak(static_cast<MemoryTag>(tag)));
  }
  // In a range of exactly the footprint it works again, in one of less it does not.
  const auto again = [&](std::size_t bytes) {
    const auto small = backend::make_cuda_backend(0, bytes);
    Decoder decoder(config, dtype, *small, policy(level, "3", config));
    decoder.parameters().initialise(5, 0.3);
    decoder.parameters().start_gradients();
    model::test::run(decoder, batch, 0.1);
  };
  CHECK_NOTHROW(again(dry.footprint()));
  CHECK_THROWS_AS(again(dry.footprint() - 256), base::OutOfMemoryError);
}

}  // namespace
}  // namespace longspan::test
