#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "tests/model/fixture.h"

// Gradients of a small model under a memory policy, against those under another.
namespace longspan::model::test {

inline MemoryPolicy policy(const std::string& checkpointing, const std::string& mlp,
                           const std::string& lm_head, backend::Index layers = 2) {
  return MemoryPolicy::parse(checkpointing, mlp, lm_head, layers, "memory");
}

struct Outcome {
  double nll_sum = 0;
  std::map<std::string, std::vector<double>> gradients;
};

/// Two micro-batches, so that gradients are also added to.
inline Outcome outcome_of(const MemoryPolicy& memory, base::DType dtype, const Batch& batch,
                          const ModelConfig& config = small_config(true),
                          backend::Backend* host = nullptr, std::uint64_t step = 0) {
  const auto backend = make_backend();
  Decoder decoder(config, dtype, *backend, memory, {}, host);
  decoder.parameters().initialise(5, 0.3);
  decoder.parameters().start_gradients();
  Outcome outcome;
  outcome.nll_sum += run(decoder, batch, 0.1, step).nll_sum;
  outcome.nll_sum += run(decoder, batch.document(0), 0.1, step).nll_sum;
  decoder.parameters().settle_gradients();
  outcome.gradients = gradients(*backend, decoder);
  return outcome;
}

inline void check_same(const Outcome& found, const Outcome& expected, double tolerance) {
  CHECK(found.nll_sum == Approx(expected.nll_sum).epsilon(tolerance));
  for (const auto& [name, gradient] : expected.gradients) {
    INFO(name);
    CHECK(relative_distance(found.gradients.at(name), gradient) <= tolerance);
  }
}

/// How far all gradients together are from the others, as a part of those.
inline double apart(const Outcome& found, const Outcome& expected) {
  double difference = 0;
  double size = 0;
  for (const auto& [name, gradient] : expected.gradients) {
    const std::vector<double>& other = found.gradients.at(name);
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      difference += (other[i] - gradient[i]) * (other[i] - gradient[i]);
      size += gradient[i] * gradient[i];
    }
  }
  return std::sqrt(difference / size);
}

inline Batch masked_batch() {
  Batch batch = random_batch(small_config(true), {7, 1, 0, 20, 9}, 1);
  for (std::size_t t = 0; t < batch.labels.size(); ++t) {
    if (t % 5 == 2 || (t > 12 && t < 20)) batch.labels[t] = backend::kIgnoredLabel;
  }
  return batch;
}

/// A policy whose slots wait as the texts say, in the order of Slot.
inline MemoryPolicy with_slots(
    const std::string& level, const SlotTexts& texts, backend::Index layers = 2,
    nn::SavePolicy::Rounding rounding = nn::SavePolicy::Rounding::kNearest) {
  MemoryPolicy memory = policy(level, "none", "2", layers);
  memory.set_slots(texts, "memory.saved_inputs", /*may_be_absent=*/true, rounding);
  return memory;
}

}  // namespace longspan::model::test
