#include "longspan/optim/galore.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/comm/dry.h"
#include "longspan/optim/adamw.h"

using namespace longspan;
using backend::Index;
using backend::Tensor;
using base::DType;

namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix zeros(Index rows, Index columns) {
  return Matrix(static_cast<std::size_t>(rows),
                std::vector<double>(static_cast<std::size_t>(columns)));
}
Matrix transposed(const Matrix& a) {
  Matrix out(a.front().size(), std::vector<double>(a.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[i].size(); ++j) out[j][i] = a[i][j];
  }
  return out;
}
Matrix product(const Matrix& a, const Matrix& b) {
  Matrix out(a.size(), std::vector<double>(b.front().size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t k = 0; k < b.size(); ++k) {
      for (std::size_t j = 0; j < b[k].size(); ++j) out[i][j] += a[i][k] * b[k][j];
    }
  }
  return out;
}

/// The principal left singular vectors as rows, by power iteration and deflation: slow, and another
/// way than the optimizer's.
Matrix singular_vectors(const Matrix& a, Index count) {
  Matrix gram = product(a, transposed(a));
  Matrix found;
  for (Index i = 0; i < count; ++i) {
    Matrix v = zeros(static_cast<Index>(gram.size()), 1);
    for (std::size_t j = 0; j < v.size(); ++j) v[j][0] = 1.0 + 0.1 * static_cast<double>(j);
    double size = 0;
    for (int round = 0; round < 4000; ++round) {
      v = product(gram, v);
      size = 0;
      for (const auto& row : v) size += row[0] * row[0];
      size = std::sqrt(size);
      for (auto& row : v) row[0] /= size;
    }
    const auto largest = *std::max_element(v.begin(), v.end(), [](const auto& x, const auto& y) {
      return std::abs(x[0]) < std::abs(y[0]);
    });
    std::vector<double> unit;
    for (const auto& row : v) unit.push_back(largest[0] < 0 ? -row[0] : row[0]);
    for (std::size_t x = 0; x < unit.size(); ++x) {
      for (std::size_t y = 0; y < unit.size(); ++y) gram[x][y] -= size * unit[x] * unit[y];
    }
    found.push_back(unit);
  }
  return found;
}

/// Adam's moments, in double, and what it would subtract.
struct PlainAdam {
  Matrix m, v;

  Matrix step(const Matrix& gradient, int update, const optim::AdamConfig& config) {
    Matrix out = gradient;
    // The betas as float32 holds them.
    const auto beta1 = static_cast<double>(static_cast<float>(config.beta1));
    const auto beta2 = static_cast<double>(static_cast<float>(config.beta2));
    const auto epsilon = static_cast<double>(static_cast<float>(config.epsilon));
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      for (std::size_t j = 0; j < gradient[i].size(); ++j) {
        const double g = gradient[i][j];
        m[i][j] = beta1 * m[i][j] + (1 - beta1) * g;
        v[i][j] = beta2 * v[i][j] + (1 - beta2) * g * g;
        const double m_hat = m[i][j] / (1 - std::pow(beta1, update));
        const double v_hat = v[i][j] / (1 - std::pow(beta2, update));
        out[i][j] = m_hat / (std::sqrt(v_hat) + epsilon);
      }
    }
    return out;
  }
};

/// GaLore as its header tells it, in double; a matrix with more rows than columns is transposed
/// first, for which nothing changes.
struct PlainGalore {
  PlainGalore(Matrix first, const optim::AdamConfig& adam_config,
              const optim::GaloreConfig& galore_config)
      : config(adam_config), galore(galore_config), weight(std::move(first)) {
    if (weight.size() > weight.front().size()) {
      is_transposed = true;
      weight = transposed(weight);
    }
    adam.m = adam.v = zeros(galore.rank, static_cast<Index>(weight.front().size()));
  }

  void step(const Matrix& given, double learning_rate, double scale) {
    Matrix gradient = is_transposed ? transposed(given) : given;
    for (auto& row : gradient) {
      for (double& value : row) value *= scale;
    }
    if (update++ % galore.interval == 0) {
      const Matrix next = singular_vectors(gradient, galore.rank);
      if (update > 1) {
        Matrix turn = product(next, transposed(projection));
        adam.m = product(turn, adam.m);
        for (auto& row : turn) {
          for (double& value : row) value *= value;
        }
        adam.v = product(turn, adam.v);
      }
      projection = next;
    }
    const Matrix change =
        product(transposed(projection), adam.step(product(projection, gradient), update, config));
    for (std::size_t i = 0; i < weight.size(); ++i) {
      for (std::size_t j = 0; j < weight[i].size(); ++j) {
        weight[i][j] -=
            learning_rate * (config.weight_decay * weight[i][j] + galore.scale * change[i][j]);
      }
    }
  }

  Matrix result() const { return is_transposed ? transposed(weight) : weight; }

  optim::AdamConfig config;
  optim::GaloreConfig galore;
  Matrix weight;
  Matrix projection;
  PlainAdam adam;
  bool is_transposed = false;
  int update = 0;
};

/// A matrix, one that is too narrow to be projected, and a norm.
struct Trained {
  Trained(DType dtype, Index rows, Index columns, const optim::GaloreConfig& galore,
          const optim::AdamConfig& config = {})
      : backend(backend::make_cpu_backend(std::size_t{1} << 26U)) {
    parameters.declare("matrix", {rows, columns}, nn::ParameterKind::kMatrix);
    parameters.declare("narrow", {2, 9}, nn::ParameterKind::kMatrix);
    parameters.declare("norm", {7}, nn::ParameterKind::kNorm);
    parameters.allocate(*backend, dtype);
    parameters.initialise(3, 0.5);
    optimizer = std::make_unique<optim::Galore>(config, galore, parameters, *backend);
  }

  Matrix values(const Tensor& tensor) const {
    const Tensor wide =
        backend->allocate(tensor.shape(), DType::kFloat64, backend::MemoryTag::kWorkspace);
    backend->copy(wide, tensor);
    Matrix out = zeros(tensor.size(0), tensor.row_elements());
    for (std::size_t i = 0; i < out.size(); ++i) {
      for (std::size_t j = 0; j < out[i].size(); ++j) {
        out[i][j] = wide.data<double>()[i * out[i].size() + j];
      }
    }
    return out;
  }

  /// Gradients whose singular values are well apart: a random matrix, row i of size 0.8^i.
  void make_gradients(int step) {
    const base::RandomStream stream(3, base::Purpose::kTest, 0, static_cast<std::uint64_t>(step));
    backend->random_normal(parameters.gradients(), stream, 0.3, 0);
    const Tensor gradient = parameters.gradient(0);
    for (Index i = 0; i < gradient.size(0); ++i) {
      for (Index j = 0; j < gradient.size(1); ++j) {
        const double factor = std::pow(0.8, static_cast<double>(std::min(i, j)));
        const Tensor at = gradient.reshape({gradient.elements()});
        backend->scale(at.rows(i * gradient.size(1) + j, i * gradient.size(1) + j + 1), factor);
      }
    }
  }

  optim::StateTensor state(const std::string& name) const {
    for (optim::StateTensor& one : optimizer->states()) {
      if (one.name == name) return one;
    }
    FAIL("there is no state " << name);
    return {};
  }

  std::unique_ptr<backend::Backend> backend;
  nn::ParameterSet parameters;
  std::unique_ptr<optim::Galore> optimizer;
};

void check_close(const Matrix& found, const Matrix& expected, double tolerance) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (std::size_t j = 0; j < found[i].size(); ++j) {
      INFO("row " << i << ", column " << j);
      CHECK(std::abs(found[i][j] - expected[i][j]) <= tolerance);
    }
  }
}

}  // namespace

TEST_CASE("GaLore follows a plain one in double, over changes of its projection", "[galore]") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32);
  const auto [rows, columns] =
      GENERATE(std::pair<Index, Index>{9, 14}, std::pair<Index, Index>{14, 9},
               std::pair<Index, Index>{8, 8});
  optim::GaloreConfig galore{.rank = 3, .interval = 2, .scale = 0.5};
  optim::AdamConfig config;
  config.epsilon = 1e-4;
  Trained trained(dtype, rows, columns, galore, config);
  PlainGalore plain(trained.values(trained.parameters.weight(0)), config, galore);
  for (int step = 0; step < 5; ++step) {
    INFO("step " << step);
    trained.make_gradients(step);
    plain.step(trained.values(trained.parameters.gradient(0)), 0.01, 0.7);
    trained.optimizer->step(0.01, 0.7);
    check_close(trained.values(trained.parameters.weight(0)), plain.result(),
                dtype == DType::kFloat64 ? 1e-7 : 2e-4);
  }
}

TEST_CASE("at full rank GaLore is Adam in the rotated basis", "[galore]") {
  const auto [rows, columns] =
      GENERATE(std::pair<Index, Index>{8, 14}, std::pair<Index, Index>{14, 8});
  const optim::GaloreConfig galore{.rank = 8, .interval = 100, .scale = 1.0};
  optim::AdamConfig config;
  config.weight_decay = 0.0;
  config.epsilon = 1e-4;
  Trained trained(DType::kFloat64, rows, columns, galore, config);
  const bool is_left = rows <= columns;
  Matrix weight = trained.values(trained.parameters.weight(0));
  PlainAdam adam;
  adam.m = adam.v = zeros(rows, columns);
  for (int step = 0; step < 4; ++step) {
    trained.make_gradients(step);
    const Matrix gradient = trained.values(trained.parameters.gradient(0));
    trained.optimizer->step(0.01, 1.0);
    // The basis is the first gradient's and stays: a rotation of the whole space.
    const Matrix basis = trained.values(trained.state("projection.matrix").held.reshape({8, 8}));
    const Matrix identity = product(basis, transposed(basis));
    for (std::size_t i = 0; i < 8; ++i) {
      for (std::size_t j = 0; j < 8; ++j) CHECK(std::abs(identity[i][j] - (i == j ? 1 : 0)) < 1e-9);
    }
    const Matrix rotated =
        is_left ? product(basis, gradient) : product(gradient, transposed(basis));
    const Matrix update = adam.step(rotated, step + 1, config);
    const Matrix back = is_left ? product(transposed(basis), update) : product(update, basis);
    for (std::size_t i = 0; i < weight.size(); ++i) {
      for (std::size_t j = 0; j < weight[i].size(); ++j) weight[i][j] -= 0.01 * back[i][j];
    }
    check_close(trained.values(trained.parameters.weight(0)), weight, 1e-8);
  }
}

TEST_CASE("GaLore's projected moments are small, and what is not projected has AdamW's",
          "[galore]") {
  const optim::GaloreConfig galore{.rank = 4, .interval = 2, .scale = 0.25};
  Trained trained(DType::kFloat32, 40, 64, galore);
  CHECK(trained.state("projection.matrix").shape == backend::Shape{4, 40});
  CHECK(trained.state("moment1.matrix").shape == backend::Shape{4, 64});
  CHECK(trained.state("moment2.matrix").shape == backend::Shape{4, 64});
  CHECK(trained.state("moment1.narrow").shape == backend::Shape{2, 9});
  CHECK(trained.state("moment1.norm").shape == backend::Shape{7});
  CHECK(trained.optimizer->states().size() == 7);
  const std::size_t taken = trained.backend->ledger().live(backend::MemoryTag::kOptimizer);
  CHECK(taken < 4 * (4 * 40 + 2 * 4 * 64) + 8 * 200 + 5 * 256);

  Trained beside(DType::kFloat32, 40, 64, galore);
  optim::AdamConfig config;
  nn::ParameterSet plain;
  plain.declare("narrow", {2, 9}, nn::ParameterKind::kMatrix);
  plain.declare("norm", {7}, nn::ParameterKind::kNorm);
  plain.allocate(*trained.backend, DType::kFloat32);
  trained.backend->copy(plain.weight(0), trained.parameters.weight(1));
  trained.backend->copy(plain.weight(1), trained.parameters.weight(2));
  optim::AdamW adamw(config, plain, *trained.backend);
  for (int step = 0; step < 3; ++step) {
    trained.make_gradients(step);
    trained.backend->copy(plain.gradient(0), trained.parameters.gradient(1));
    trained.backend->copy(plain.gradient(1), trained.parameters.gradient(2));
    trained.optimizer->step(0.01, 0.7);
    adamw.step(0.01, 0.7);
  }
  for (const int number : {0, 1}) {
    const Tensor expected = plain.weight(number);
    CHECK(std::memcmp(trained.parameters.weight(number + 1).raw(), expected.raw(),
                      expected.bytes()) == 0);
  }
}

TEST_CASE("GaLore's changes of a matrix stay within its projection, but for decay", "[galore]") {
  const optim::GaloreConfig galore{.rank = 3, .interval = 10, .scale = 1.0};
  optim::AdamConfig config;
  config.weight_decay = 0.0;
  Trained trained(DType::kFloat64, 9, 12, galore, config);
  const Matrix before = trained.values(trained.parameters.weight(0));
  for (int step = 0; step < 3; ++step) {
    trained.make_gradients(step);
    trained.optimizer->step(0.05, 1.0);
  }
  Matrix change = trained.values(trained.parameters.weight(0));
  double moved = 0;
  for (std::size_t i = 0; i < change.size(); ++i) {
    for (std::size_t j = 0; j < change[i].size(); ++j) {
      change[i][j] -= before[i][j];
      moved += change[i][j] * change[i][j];
    }
  }
  CHECK(moved > 0.01);
  const Matrix basis = trained.values(trained.state("projection.matrix").held.reshape({3, 9}));
  check_close(product(transposed(basis), product(basis, change)), change, 1e-9);
}

TEST_CASE("bfloat16 matrices of GaLore follow a float32 master", "[galore]") {
  const optim::GaloreConfig galore{.rank = 3, .interval = 2, .scale = 0.5};
  Trained trained(DType::kBFloat16, 9, 12, galore);
  for (int step = 0; step < 3; ++step) {
    trained.make_gradients(step);
    trained.optimizer->step(0.01, 1.0);
  }
  const optim::StateTensor master = trained.state("master.matrix");
  const Tensor weight = trained.parameters.weight(0);
  bool is_finer = false;
  for (Index i = 0; i < weight.elements(); ++i) {
    const float exact = master.held.data<float>()[i];
    const base::BFloat16 rounded(exact);
    CHECK(weight.data<base::BFloat16>()[i].bits == rounded.bits);
    is_finer = is_finer || static_cast<float>(rounded) != exact;
  }
  CHECK(is_finer);
}

TEST_CASE("GaLore refuses matrices that ranks share", "[galore]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 24U);
  backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
  comm::DryCommunicator world(0, 2, nothing);
  nn::ParameterSet parameters;
  parameters.declare("matrix", {16, 16}, nn::ParameterKind::kMatrix);
  parameters.allocate(*backend, DType::kFloat32, {.zero_stage = 1, .ranks = &world});
  CHECK_THROWS_AS(optim::Galore({}, {.rank = 4}, parameters, *backend), base::InternalError);
}
