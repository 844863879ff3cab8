#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

const base::RandomStream kStream(11, base::Purpose::kInitialWeight, 0, 5);

TEST_CASE("random_normal is the stream's normal at each element, rounded once") {
  const DType dtype = every_float();
  const Index padding = GENERATE(0, 3);
  const std::uint64_t first = 0xFFFFFFF0U;  // elements go past 32 bits
  Array out(dtype, {130, 77}, padding);
  processor().random_normal(out, kStream, 0.02, first);
  Array expected(dtype, {130, 77});
  for (Index i = 0; i < expected.elements(); ++i) {
    expected.set(i, 0.02 * kStream.normal(first + static_cast<std::uint64_t>(i)));
  }
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("a range of random_normal is that part of the whole, on any number of threads") {
  Array whole(DType::kFloat32, {40000});
  processor().random_normal(whole, kStream, 1.0, 0);
  const Threads threads(1);
  Array part(DType::kFloat32, {7});
  processor().random_normal(part, kStream, 1.0, 33333);
  for (Index i = 0; i < 7; ++i) CHECK(part.get(i) == whole.get(33333 + i));
}

TEST_CASE("random_normal has the deviation it was asked for") {
  Array out(DType::kFloat32, {100000});
  processor().random_normal(out, kStream, 3.0, 0);
  double sum = 0.0;
  double squares = 0.0;
  for (const double value : out.values()) {
    sum += value;
    squares += value * value;
  }
  // Five standard errors: 3/sqrt(n) of the mean, 9 sqrt(2/n) of the variance.
  CHECK(std::abs(sum / 1e5) < 5.0 * 3.0 / std::sqrt(1e5));
  CHECK(std::abs(squares / 1e5 - 9.0) < 5.0 * 9.0 * std::sqrt(2.0 / 1e5));
}

TEST_CASE("random_normal refuses integers") {
  CHECK_THROWS_AS(processor().random_normal(Array(DType::kInt32, {4}), kStream, 1.0, 0),
                  base::InternalError);
}

TEST_CASE("random_uniform is the stream's uniform at each element, within its bound") {
  const DType dtype = every_float();
  const Index padding = GENERATE(0, 3);
  const std::uint64_t first = 0xFFFFFFF0U;
  Array out(dtype, {130, 77}, padding);
  processor().random_uniform(out, kStream, 0.25, first);
  Array expected(dtype, {130, 77});
  double least = 1.0;
  double most = -1.0;
  for (Index i = 0; i < expected.elements(); ++i) {
    const double value = 0.25 * (2.0 * kStream.uniform(first + static_cast<std::uint64_t>(i)) - 1);
    least = std::min(least, value);
    most = std::max(most, value);
    expected.set(i, value);
  }
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
  CHECK((least < -0.24 && least >= -0.25 && most > 0.24 && most < 0.25));
}

}  // namespace
}  // namespace longspan::backend::testing
