// Slopes along random directions, of functions whose gradients are known.
#include "longspan/optim/mezo.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "longspan/comm/dry.h"
#include "longspan/optim/lozo.h"

using namespace longspan;
using backend::Index;
using backend::Tensor;
using base::DType;
using Values = std::vector<double>;

namespace {

constexpr int kMatrix = 0, kNorm = 1, kNarrow = 2, kEmbedding = 3;
constexpr Index kRows = 9, kColumns = 7;

/// A parameter of each kind, and a matrix that is narrower than ranks of directions.
void declare_all(nn::ParameterSet& parameters) {
  parameters.declare("matrix", {kRows, kColumns}, nn::ParameterKind::kMatrix);
  parameters.declare("norm", {11}, nn::ParameterKind::kNorm);
  parameters.declare("narrow", {2, 13}, nn::ParameterKind::kMatrix);
  parameters.declare("embedding", {5, 6}, nn::ParameterKind::kEmbedding);
}

template <typename Method>
std::unique_ptr<optim::Mezo> make(const optim::AdamConfig& decay,
                                  const optim::PerturbationConfig& config,
                                  nn::ParameterSet& parameters, backend::Backend& backend) {
  if constexpr (std::is_same_v<Method, optim::Lozo>) {
    return std::make_unique<optim::Lozo>(decay, config, optim::LozoConfig{3, 10}, parameters,
                                         backend);
  } else {
    return std::make_unique<optim::Mezo>(decay, config, parameters, backend);
  }
}

/// Weights without gradients, and what moves them.
template <typename Method>
struct Fixture {
  explicit Fixture(DType dtype, const optim::AdamConfig& decay = {.weight_decay = 0.0},
                   std::uint64_t seed = 5)
      : backend(backend::make_cpu_backend(std::size_t{1} << 26U)) {
    declare_all(parameters);
    parameters.allocate(*backend, dtype, {.has_gradients = false});
    parameters.initialise(3, 0.5);
    method = make<Method>(decay, {.epsilon = 1e-3, .seed = seed}, parameters, *backend);
  }

  Values weights(int number) const {
    const Tensor wide = backend->allocate(parameters.at(number).shape, DType::kFloat64,
                                          backend::MemoryTag::kWorkspace);
    backend->copy(wide, parameters.weight(number));
    const double* const first = wide.template data<double>();
    return {first, first + wide.elements()};
  }
  std::vector<Values> all() const {
    std::vector<Values> all;
    for (int number = 0; number <= kEmbedding; ++number) all.push_back(weights(number));
    return all;
  }
  /// Of this step, in float64.
  std::vector<Values> direction(std::int64_t step) {
    method->choose_direction(step);
    const auto before = all();
    method->move(1.0);
    auto moved = all();
    method->move_back();
    for (std::size_t i = 0; i < moved.size(); ++i) {
      for (std::size_t j = 0; j < moved[i].size(); ++j) moved[i][j] -= before[i][j];
    }
    return moved;
  }

  std::unique_ptr<backend::Backend> backend;
  nn::ParameterSet parameters;
  std::unique_ptr<optim::Mezo> method;
};

double curvature(std::size_t parameter, std::size_t element) {
  return 0.5 + 0.1 * static_cast<double>((7 * parameter + 3 * element) % 11);
}

/// Half the sum of curvature times the square of each weight.
double quadratic(const std::vector<Values>& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    for (std::size_t j = 0; j < weights[i].size(); ++j) {
      sum += 0.5 * curvature(i, j) * weights[i][j] * weights[i][j];
    }
  }
  return sum;
}

/// `point` becomes the weights above.
template <typename Method>
double slope_of_quadratic(Fixture<Method>& f, std::int64_t step,
                          std::vector<Values>* point = nullptr) {
  f.method->choose_direction(step);
  f.method->move(f.method->epsilon());
  const auto moved = f.all();
  if (point != nullptr) *point = moved;
  const double above = quadratic(moved);
  f.method->move(-f.method->epsilon());
  const double below = quadratic(f.all());
  f.method->move_back();
  return (above - below) / (2 * f.method->epsilon());
}

/// How many rows of a matrix [rows, columns] do not depend on others.
int rank_of(Values matrix, std::size_t columns) {
  const std::size_t rows = matrix.size() / columns;
  int rank = 0;
  for (std::size_t column = 0, at = 0; column < columns && at < rows; ++column) {
    std::size_t pivot = at;
    for (std::size_t row = at; row < rows; ++row) {
      const auto size = [&](std::size_t r) { return std::abs(matrix[r * columns + column]); };
      if (size(row) > size(pivot)) pivot = row;
    }
    if (std::abs(matrix[pivot * columns + column]) < 1e-9) continue;
    for (std::size_t j = 0; j < columns; ++j) {
      std::swap(matrix[pivot * columns + j], matrix[at * columns + j]);
    }
    for (std::size_t row = at + 1; row < rows; ++row) {
      const double factor = matrix[row * columns + column] / matrix[at * columns + column];
      for (std::size_t j = 0; j < columns; ++j) {
        matrix[row * columns + j] -= factor * matrix[at * columns + j];
      }
    }
    ++at;
    ++rank;
  }
  return rank;
}

Values stacked(Values first, const Values& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

double squares(const Values& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return sum;
}

/// How far the mean of slope times direction, corrected, over many steps is from the gradient of
/// the quadratic: the squared distance over the squared length, of one parameter.
template <typename Method>
double squared_error(Fixture<Method>& f, int parameter, int steps, double correction) {
  const auto number = static_cast<std::size_t>(parameter);
  const auto weights = f.all();
  Values mean(weights[number].size());
  for (int step = 0; step < steps; ++step) {
    std::vector<Values> point;
    const double slope = slope_of_quadratic(f, step, &point);
    for (std::size_t j = 0; j < mean.size(); ++j) {
      const double direction = (point[number][j] - weights[number][j]) / f.method->epsilon();
      mean[j] += slope * direction * correction / steps;
    }
  }
  Values error = mean;
  Values gradient = mean;
  for (std::size_t j = 0; j < mean.size(); ++j) {
    gradient[j] = curvature(number, j) * weights[number][j];
    error[j] -= gradient[j];
  }
  return squares(error) / squares(gradient);
}

}  // namespace

TEMPLATE_TEST_CASE("the slope is that of the direction, exactly where a loss is quadratic", "",
                   optim::Mezo, optim::Lozo) {
  Fixture<TestType> f(DType::kFloat64);
  const auto weights = f.all();
  for (const std::int64_t step : {0, 1, 17}) {
    const auto direction = f.direction(step);
    double expected = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      for (std::size_t j = 0; j < weights[i].size(); ++j) {
        expected += curvature(i, j) * weights[i][j] * direction[i][j];
      }
    }
    CHECK(slope_of_quadratic(f, step) == Approx(expected).epsilon(1e-9));
  }
}

TEMPLATE_TEST_CASE("weights come back bit for bit, and there are no gradients", "", optim::Mezo,
                   optim::Lozo) {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64);
  Fixture<TestType> f(dtype);
  CHECK_FALSE(f.parameters.trains());
  CHECK(f.backend->ledger().live(backend::MemoryTag::kGradients) == 0);
  const auto before = f.all();
  for (std::int64_t step = 0; step < 20; ++step) {
    slope_of_quadratic(f, step);
    CHECK(f.all() == before);
  }
  f.method->move(0.1);
  CHECK(f.all() != before);
  f.method->move_back();
  CHECK(f.all() == before);
}

TEMPLATE_TEST_CASE("a direction is the step's and the seed's, and no other's", "", optim::Mezo,
                   optim::Lozo) {
  Fixture<TestType> f(DType::kFloat64);
  Fixture<TestType> same(DType::kFloat64);
  Fixture<TestType> other(DType::kFloat64, {}, 6);
  const auto direction = f.direction(3);
  CHECK(same.direction(3) == direction);
  CHECK(f.direction(4) != direction);
  CHECK(other.direction(3) != direction);
  CHECK(f.direction(3) == direction);
}

TEST_CASE("elements of MeZO's direction are standard normal numbers of their own", "[mezo]") {
  Fixture<optim::Mezo> f(DType::kFloat64);
  double sum = 0;
  double square = 0;
  int count = 0;
  for (std::int64_t step = 0; step < 200; ++step) {
    for (const Values& part : f.direction(step)) {
      for (const double value : part) sum += value;
      square += squares(part);
      count += static_cast<int>(part.size());
    }
  }
  CHECK(std::abs(sum / count) < 4 / std::sqrt(count));
  CHECK(std::abs(square / count - 1) < 4 * std::sqrt(2.0 / count));
}

TEST_CASE("MeZO's update is the slope times the direction, with decoupled decay", "[mezo]") {
  const bool decays_all = GENERATE(false, true);
  Fixture<optim::Mezo> f(DType::kFloat64,
                         {.weight_decay = 0.3, .decay_norms_and_embeddings = decays_all});
  const auto before = f.all();
  const auto direction = f.direction(8);
  f.method->step(0.05, -1.75);
  CHECK(f.method->updates() == 1);
  const auto after = f.all();
  for (int number = 0; number <= kEmbedding; ++number) {
    const bool decays = decays_all || number == kMatrix || number == kNarrow;
    const auto i = static_cast<std::size_t>(number);
    for (std::size_t j = 0; j < before[i].size(); ++j) {
      const double expected =
          before[i][j] * (1 - (decays ? 0.05 * 0.3 : 0)) + 0.05 * 1.75 * direction[i][j];
      CHECK(after[i][j] == Approx(expected).epsilon(1e-6).margin(1e-8));
    }
  }
  f.method->move(1e-3);
  f.method->move_back();
  CHECK(f.all() == after);
}

TEST_CASE("bfloat16 weights are rounded from a master that gathers small updates", "[mezo]") {
  Fixture<optim::Mezo> f(DType::kBFloat16);
  const auto before = f.weights(kNorm);  // ones, whose neighbours are 2^-8 and 2^-7 away
  const auto direction = f.direction(0)[kNorm];
  f.method->choose_direction(0);
  for (int update = 0; update < 100; ++update) f.method->step(1e-3, 1.0);
  const auto after = f.weights(kNorm);
  for (std::size_t j = 0; j < before.size(); ++j) {
    CHECK(std::abs(after[j] - (before[j] - 0.1 * direction[j])) <= 0.012);
  }
}

TEST_CASE("LOZO's directions have its rank, and one basis in an interval", "[lozo]") {
  Fixture<optim::Lozo> f(DType::kFloat64);
  const auto first = f.direction(10);
  const auto second = f.direction(19);
  const auto third = f.direction(20);
  for (const auto& [number, columns] : {std::pair{kMatrix, 7}, std::pair{kEmbedding, 6}}) {
    const auto i = static_cast<std::size_t>(number);
    const auto width = static_cast<std::size_t>(columns);
    CHECK(rank_of(first[i], width) == 3);
    CHECK(rank_of(stacked(first[i], second[i]), width) == 3);
    CHECK(rank_of(stacked(second[i], third[i]), width) == 6);
  }
  // A matrix with a shorter side has a full direction, as vectors have.
  CHECK(rank_of(first[kNarrow], 13) == 2);
  CHECK(rank_of(stacked(first[kNarrow], second[kNarrow]), 13) == 4);
  Fixture<optim::Mezo> plain(DType::kFloat64);
  CHECK(first[kNarrow] == plain.direction(10)[kNarrow]);
  CHECK(first[kNorm] == plain.direction(10)[kNorm]);
}

TEST_CASE("LOZO's update is the slope times the direction over the rank", "[lozo]") {
  Fixture<optim::Lozo> f(DType::kFloat64);
  const auto before = f.all();
  const auto direction = f.direction(12);
  f.method->step(0.05, 2.0);
  const auto after = f.all();
  for (std::size_t i = 0; i < before.size(); ++i) {
    const bool is_low = i == kMatrix || i == kEmbedding;
    Values change = before[i];
    for (std::size_t j = 0; j < change.size(); ++j) {
      change[j] = after[i][j] - before[i][j];
      CHECK(change[j] ==
            Approx(-0.05 * 2.0 * direction[i][j] / (is_low ? 3 : 1)).epsilon(1e-6).margin(1e-8));
    }
    if (i == kMatrix) CHECK(rank_of(change, kColumns) == 3);
  }
}

TEST_CASE("slopes times directions are the gradient in the mean", "[mezo]") {
  // Of n draws the squared error is about (d + 1) / n of the whole gradient's square.
  constexpr int kSteps = 2500;
  SECTION("MeZO") {
    Fixture<optim::Mezo> f(DType::kFloat64);
    CHECK(squared_error(f, kMatrix, kSteps, 1.0) < 0.1);
    CHECK(squared_error(f, kNorm, kSteps, 1.0) < 0.1);
  }
  SECTION("LOZO, of which the division by the rank is a part") {
    Fixture<optim::Lozo> f(DType::kFloat64);
    CHECK(squared_error(f, kMatrix, kSteps, 1.0 / 3) < 0.1);
    CHECK(squared_error(f, kNorm, kSteps, 1.0) < 0.1);
    CHECK(squared_error(f, kMatrix, kSteps, 1.0) > 1);
  }
}

TEST_CASE("elements of U V^T have the rank as their mean square", "[lozo]") {
  Fixture<optim::Lozo> f(DType::kFloat64);
  double square = 0;
  constexpr int kIntervals = 300;
  for (std::int64_t interval = 0; interval < kIntervals; ++interval) {
    square += squares(f.direction(10 * interval)[kMatrix]);
  }
  CHECK(square / (kIntervals * kRows * kColumns) == Approx(3.0).epsilon(0.1));
}

TEMPLATE_TEST_CASE("directions of many chunks are the same bits wherever ranks cut them", "",
                   optim::Mezo, optim::Lozo) {
  const auto host = backend::make_cpu_backend(std::size_t{1} << 28U);
  const auto declare = [&](nn::ParameterSet& set, int stage, comm::Communicator* ranks) {
    set.declare("matrix", {1301, 1021}, nn::ParameterKind::kMatrix);
    set.declare("long", {3, 400001}, nn::ParameterKind::kMatrix);
    set.allocate(*host, DType::kFloat32,
                 {.zero_stage = stage, .ranks = ranks, .has_gradients = false});
  };
  const auto train = [&](nn::ParameterSet& set) {
    const auto method = make<TestType>({}, {.seed = 4}, set, *host);
    method->choose_direction(23);
    method->step(0.01, 1.5);
  };
  nn::ParameterSet whole;
  declare(whole, 0, nullptr);
  train(whole);
  CHECK(host->sum_of_squares(whole.weights()) > 0);
  for (const int stage : {1, 3}) {
    constexpr int kRanks = 3;
    for (int rank = 0; rank < kRanks; ++rank) {
      backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
      comm::DryCommunicator world(rank, kRanks, nothing);
      nn::ParameterSet part;
      declare(part, stage, &world);
      train(part);
      for (const nn::OwnRange& range : part.own_ranges()) {
        const Index begin = whole.at(range.number).offset + range.elements.begin;
        const Tensor found = part.own_weight(range);
        const Tensor expected = whole.weights().rows(begin, begin + range.elements.size());
        CHECK(std::memcmp(found.raw(), expected.raw(), found.bytes()) == 0);
      }
    }
  }
}

TEST_CASE("what moving takes of memory is the master and a chunk", "[mezo]") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const auto host = backend::make_cpu_backend(std::size_t{1} << 28U);
  nn::ParameterSet set;
  set.declare("matrix", {3000, 1000}, nn::ParameterKind::kMatrix);
  set.allocate(*host, dtype, {.has_gradients = false});
  const auto method = make<optim::Mezo>({}, {}, set, *host);
  method->move(0.1);
  method->step(0.01, 1.0);
  const auto& ledger = host->ledger();
  CHECK(ledger.peak(backend::MemoryTag::kOptimizer) < 4 * 3000000 + 4096);
  CHECK(ledger.peak(backend::MemoryTag::kWorkspace) <= (std::size_t{4} << 20U) + 4096);
  CHECK(ledger.peak(backend::MemoryTag::kGradients) == 0);
  CHECK(method->states().size() == (dtype == DType::kBFloat16 ? 1 : 0));
}
