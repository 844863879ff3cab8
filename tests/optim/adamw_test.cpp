#include "longspan/optim/adamw.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <optional>
#include <vector>

using namespace longspan;
using backend::Index;
using base::DType;

namespace {

/// Three parameters, one of each kind; gradients as given by the test.
struct Fixture {
  explicit Fixture(DType dtype, optim::AdamConfig config = {})
      : backend(backend::make_cpu_backend(std::size_t{1} << 24U)) {
    matrix = parameters.declare("matrix", {3, 5}, nn::ParameterKind::kMatrix);
    norm = parameters.declare("norm", {7}, nn::ParameterKind::kNorm);
    embedding = parameters.declare("embedding", {2, 3}, nn::ParameterKind::kEmbedding);
    parameters.allocate(*backend, dtype);
    parameters.initialise(3, 0.5);
    optimizer.emplace(config, parameters, *backend);
  }

  optim::AdamW& adamw() { return *optimizer; }

  std::unique_ptr<backend::Backend> backend;
  nn::ParameterSet parameters;
  std::optional<optim::AdamW> optimizer;
  int matrix = 0, norm = 0, embedding = 0;
};

}  // namespace

TEST_CASE("AdamW follows its formula for several steps", "[adamw]") {
  optim::AdamConfig config;
  config.weight_decay = 0.3;
  Fixture f(DType::kFloat64, config);
  const double lr = 0.05;
  const double scale = 0.5;
  struct Element {
    int number;
    double w, m = 0, v = 0;
  };
  std::vector<Element> elements;
  for (const int number : {f.matrix, f.norm, f.embedding}) {
    elements.push_back({number, f.parameters.weight(number).data<double>()[1]});
  }
  for (int t = 1; t <= 5; ++t) {
    f.backend->zero(f.parameters.gradients());
    const auto gradient_of = [&](const Element& one) { return std::sin(t) + 0.1 * one.number; };
    for (const Element& one : elements) {
      f.parameters.gradient(one.number).data<double>()[1] = gradient_of(one);
    }
    f.adamw().step(lr, scale);
    for (Element& one : elements) {
      const double decay = one.number == f.matrix ? 0.3 : 0.0;
      const double g = gradient_of(one) * scale;
      one.m = 0.9F * one.m + (1 - 0.9F) * g;
      one.v = 0.95F * one.v + (1 - 0.95F) * g * g;
      const double m_hat = one.m / (1 - std::pow(0.9F, t));
      const double v_hat = one.v / (1 - std::pow(0.95F, t));
      one.w -= lr * (m_hat / (std::sqrt(v_hat) + 1e-8) + decay * one.w);
      CHECK(f.parameters.weight(one.number).data<double>()[1] == Approx(one.w).epsilon(1e-6));
    }
  }
  CHECK(f.adamw().updates() == 5);
}

TEST_CASE("norms and embeddings do not decay unless asked", "[adamw]") {
  for (const bool asked : {false, true}) {
    optim::AdamConfig config;
    config.weight_decay = 1.0;
    config.decay_norms_and_embeddings = asked;
    Fixture f(DType::kFloat32, config);
    std::vector<float> before;
    for (const int number : {f.matrix, f.norm, f.embedding}) {
      before.push_back(f.parameters.weight(number).data<float>()[0]);
    }
    f.backend->zero(f.parameters.gradients());
    f.adamw().step(0.25, 1.0);
    CHECK(f.parameters.weight(f.matrix).data<float>()[0] == Approx(0.75F * before[0]));
    const float kept = asked ? 0.75F : 1.0F;
    CHECK(f.parameters.weight(f.norm).data<float>()[0] == Approx(kept * before[1]));
    CHECK(f.parameters.weight(f.embedding).data<float>()[0] == Approx(kept * before[2]));
  }
}

TEST_CASE("bfloat16 weights follow a float32 master", "[adamw]") {
  optim::AdamConfig config;
  config.weight_decay = 0.0;
  Fixture f(DType::kBFloat16, config);
  f.backend->fill(f.parameters.gradients(), 1.0);
  const backend::Tensor weight = f.parameters.weight(f.norm);
  // Steps far below bfloat16's resolution near 1 (2^-8) must add up in the master.
  for (int step = 0; step < 64; ++step) f.adamw().step(0.0005, 1.0);
  const optim::StateTensor state = f.adamw().master()[static_cast<std::size_t>(f.norm)];
  CHECK(state.name == "master.norm");
  const float master = state.held.data<float>()[0];
  CHECK(master == Approx(1.0 - 64 * 0.0005).epsilon(1e-4));
  CHECK(static_cast<float>(weight.data<base::BFloat16>()[0]) ==
        static_cast<float>(base::BFloat16(master)));
}

TEST_CASE("clipping brings the norm to its limit and leaves less alone", "[adamw]") {
  CHECK(optim::clip_factor(4.0, 1.0) == Approx(0.25));
  CHECK(optim::clip_factor(0.5, 1.0) == 1.0);
  CHECK(optim::clip_factor(100.0, 0.0) == 1.0);
}
