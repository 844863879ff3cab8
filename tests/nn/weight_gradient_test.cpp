#include "longspan/nn/weight_gradient.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/base/error.h"
#include "longspan/nn/linear.h"
#include "tests/nn/gradient_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::check_near;
using test::LayerBench;
using test::product;

constexpr Index kTokens = 7;
constexpr Index kInputs = 12;

VeloraOptions options_of(Index groups, const std::vector<std::string>& modules,
                         double scale = 1.0) {
  return {.groups = groups, .scale = scale, .modules = {modules}};
}

/// Three matrices side by side, of which `velora` may compress some.
struct Bench : LayerBench {
  explicit Bench(const VeloraOptions& velora, bool has_bias = false)
      : velora(velora),
        linear(set, {{"q", 4}, {"k", 2}, {"v", 3}}, kInputs,
               {.has_bias = has_bias, .methods = {.velora = &this->velora}}) {
    fill(set);
  }

  /// Of these inputs.
  void find(const Tensor& x) {
    set.directions().find();
    Pass pass = this->pass({kTokens});
    const Tensor dy = random({kTokens, 9});
    set.start_gradients();
    linear.backward_weight(dy, x, pass);
    set.settle_gradients();
    const auto alone = comm::make_single_communicator();
    set.directions().settle(*alone);
    set.start_gradients();
  }
  void direct(const std::vector<double>& direction) { assign(set.directions().of(0), direction); }

  void backward(const Tensor& dy, const Tensor& x) {
    Pass pass = this->pass({kTokens});
    linear.backward_weight(dy, x, pass);
  }
  std::vector<double> gradient(int number) { return values(set.gradient(number)); }

  VeloraOptions velora;
  ParameterSet set;
  Linear linear;
};

/// s dW P of groups along `direction`.
std::vector<double> projected(const std::vector<double>& gradient,
                              const std::vector<double>& direction, double scale) {
  const std::size_t length = direction.size();
  std::vector<double> out(gradient.size());
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const std::size_t first = i / length * length;
    double sum = 0;
    for (std::size_t j = 0; j < length; ++j) sum += gradient[first + j] * direction[j];
    out[i] = scale * sum * direction[i - first];
  }
  return out;
}

std::vector<double> expanded(const std::vector<double>& compressed,
                             const std::vector<double>& direction) {
  std::vector<double> out;
  for (const double number : compressed) {
    for (const double v : direction) out.push_back(number * v);
  }
  return out;
}

TEST_CASE("velora: the gradient is scale dW P, along the inputs' mean; others' are exact") {
  const Index groups = GENERATE(1, 3, 4, 6);
  Bench bench(options_of(groups, {"v", "q"}, 1.5));
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  bench.find(x);
  const std::vector<double> v = LayerBench::values(bench.set.directions().of(0));

  // The mean of all groups of all tokens, of norm 1.
  std::vector<double> mean(v.size());
  for (Index i = 0; i < kTokens * kInputs; ++i) {
    mean[static_cast<std::size_t>(i) % v.size()] += x.data<double>()[i];
  }
  double squares = 0;
  for (const double sum : mean) squares += sum * sum;
  for (double& sum : mean) sum /= std::sqrt(squares);
  check_near(v, mean);

  bench.backward(dy, x);
  CHECK(bench.set.at(0).gradient_shape() == backend::Shape{4, groups});
  check_near(expanded(bench.gradient(0), v), projected(product(dy, x, 0, 4), v, 1.5));
  check_near(bench.gradient(1), product(dy, x, 4, 6));
  check_near(expanded(bench.gradient(2), v), projected(product(dy, x, 6, 9), v, 1.5));
  // The norm of what is kept is the gradient's.
  double all = 0;
  for (const int part : {0, 1, 2}) {
    const std::vector<double> gradient =
        part == 1 ? bench.gradient(1) : expanded(bench.gradient(part), v);
    for (const double number : gradient) all += number * number;
  }
  CHECK(bench.set.gradient_squares() == Approx(all));
}

TEST_CASE("velora: exact where every group of the inputs is along the direction, 0 across it") {
  Bench bench(options_of(4, {"v"}));
  const std::vector<double> v{2.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0};
  bench.direct(v);
  const Tensor dy = bench.random({kTokens, 9});
  std::vector<double> along;
  std::vector<double> across;
  for (Index i = 0; i < kTokens * kInputs; ++i) {
    along.push_back(v[static_cast<std::size_t>(i % 3)] * static_cast<double>(i / 3 % 5 - 2));
    across.push_back(std::vector<double>{1.0, 4.0, 1.0}[static_cast<std::size_t>(i % 3)]);
  }
  const Tensor x = bench.empty({kTokens, kInputs});
  LayerBench::assign(x, along);
  bench.set.start_gradients();
  bench.backward(dy, x);
  check_near(expanded(bench.gradient(2), v), product(dy, x, 6, 9));
  LayerBench::assign(x, across);
  bench.set.start_gradients();
  bench.backward(dy, x);
  for (const double number : bench.gradient(2)) CHECK(std::abs(number) < 1e-12);
}

TEST_CASE("velora: exact with as many groups as inputs; the direction's sign does not matter") {
  Bench bench(options_of(kInputs, {"v"}));
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  bench.find(x);
  bench.backward(dy, x);
  const std::vector<double> v = LayerBench::values(bench.set.directions().of(0));
  CHECK(std::abs(v.front()) == 1.0);
  check_near(expanded(bench.gradient(2), v), product(dy, x, 6, 9));
  bench.direct({-v.front()});
  bench.set.start_gradients();
  bench.backward(dy, x);
  check_near(expanded(bench.gradient(2), {-v.front()}), product(dy, x, 6, 9));
}

TEST_CASE("velora: outputs, gradients of inputs and biases are the exact layer's bits") {
  Bench plain(options_of(1, {}), true);
  Bench bench(options_of(3, {"q", "v"}), true);
  const Tensor x = plain.random({kTokens, kInputs});
  const Tensor dy = plain.random({kTokens, 9});
  bench.find(x);
  std::vector<std::vector<double>> found;
  for (Bench* one : {&plain, &bench}) {
    LayerBench::assign(one->set.weights(), LayerBench::values(plain.set.weights()));
    one->set.start_gradients();
    Pass pass = one->pass({kTokens});
    const Tensor out = one->empty({kTokens, 9});
    const Tensor dx = one->empty({kTokens, kInputs});
    one->linear.forward(out, x, pass);
    one->linear.backward(dx, dy, x, pass);
    for (const Tensor& tensor : {out, dx, one->set.joined_gradient(3, 3), one->set.gradient(1)}) {
      found.push_back(LayerBench::values(tensor));
    }
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(found[i] == found[i + 4]);
}

TEST_CASE("velora: portions of tokens add up to the whole, and so do passes") {
  Bench bench(options_of(3, {"q", "k", "v"}));
  const Tensor x = bench.random({kTokens, kInputs});
  const Tensor dy = bench.random({kTokens, 9});
  bench.find(x);
  bench.backward(dy, x);
  const std::vector<double> whole = LayerBench::values(bench.set.gradients());
  bench.set.start_gradients();
  for (const auto& [begin, end] : {std::pair<Index, Index>{0, 2}, {2, 3}, {3, kTokens}}) {
    bench.backward(dy.rows(begin, end), x.rows(begin, end));
  }
  check_near(LayerBench::values(bench.set.gradients()), whole);
}

TEST_CASE("velora: of adapters A's gradient is projected, and B's is exact") {
  const VeloraOptions velora = options_of(4, {"k"});
  const double third = std::sqrt(1.0 / 3.0);
  const std::vector<double> v{third, -third, third};
  const auto with = [&](const VeloraOptions* options) {
    return test::adapter_gradients(
        options, nullptr, [&](LayerBench& /*bench*/, ParameterSet& low_rank, Pass& /*pass*/) {
          if (options != nullptr) LayerBench::assign(low_rank.directions().of(0), v);
        });
  };
  const test::AdapterGradients exact = with(nullptr);
  const test::AdapterGradients compressed = with(&velora);
  CHECK(compressed.b_of_q == exact.b_of_q);
  CHECK(compressed.b_of_k == exact.b_of_k);
  CHECK(compressed.a_of_q == exact.a_of_q);
  check_near(expanded(compressed.a_of_k, v), projected(exact.a_of_k, v, 1.0));
}

TEST_CASE("velora: a mean of zero gives equal elements; what does not fit is refused") {
  Bench bench(options_of(3, {"v"}));
  const Tensor zeros = bench.empty({kTokens, kInputs});
  bench.backend().zero(zeros);
  bench.find(zeros);
  CHECK(LayerBench::values(bench.set.directions().of(0)) == std::vector<double>(4, 0.5));

  bench.backend().fill(zeros, INFINITY);
  CHECK_THROWS_AS(bench.find(zeros), base::InputError);

  CHECK_THROWS_AS(Bench(options_of(5, {"v"})), base::InternalError);
  ParameterSet set;
  const VeloraOptions velora = options_of(3, {"q"});
  CHECK_THROWS_AS(
      Linear(set, {{"q", 4}}, kInputs, {.inputs_first = true, .methods = {.velora = &velora}}),
      base::InternalError);
}

}  // namespace
}  // namespace longspan::nn
