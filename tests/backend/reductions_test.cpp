#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index rows, columns, padding;
};

TEST_CASE("sum and sum_of_squares agree with long double") {
  const DType dtype = every_float();
  const Case size =
      GENERATE(Case{0, 5, 0}, Case{3, 0, 1}, Case{1, 1, 0}, Case{7, 64, 3}, Case{1000, 7, 0},
               Case{1000, 7, 2}, Case{2, 70001, 0}, Case{2, 70001, 1});
  Array in(dtype, {size.rows, size.columns}, size.padding);
  in.random(1);
  long double sum = 0.0L;
  long double squares = 0.0L;
  for (Index i = 0; i < in.elements(); ++i) {
    sum += in.get(i);
    squares += static_cast<long double>(in.get(i)) * in.get(i);
  }
  CHECK(processor().sum(in) == Approx(static_cast<double>(sum)).epsilon(1e-12).margin(1e-9));
  CHECK(processor().sum_of_squares(in) == Approx(static_cast<double>(squares)).epsilon(1e-12));
}

TEST_CASE("sum is the same on one thread and on two") {
  const Index padding = GENERATE(0, 3);
  Array in(DType::kFloat64, {3000, 101}, padding);
  in.random(1);
  double sums[2];
  double squares[2];
  for (const int count : {1, 2}) {
    const Threads threads(count);
    sums[count - 1] = processor().sum(in);
    squares[count - 1] = processor().sum_of_squares(in);
  }
  CHECK(sums[0] == sums[1]);
  CHECK(squares[0] == squares[1]);
}

TEST_CASE("one element that is not finite shows in the sums") {
  const DType dtype = every_float();
  const double bad = GENERATE(double{NAN}, double{INFINITY}, -double{INFINITY});
  const Index at = GENERATE(0, 17, 99999);
  Array in(dtype, {100000});
  in.fill(1.0);
  in.set(at, bad);
  CHECK_FALSE(std::isfinite(processor().sum_of_squares(in)));
  CHECK_FALSE(std::isfinite(processor().sum(in)));
}

TEST_CASE("squares of the largest float do not overflow") {
  Array in(DType::kFloat32, {4});
  in.fill(3e38);
  CHECK(std::isfinite(processor().sum_of_squares(in)));
}

TEST_CASE("sum refuses integers and nothing at all") {
  CHECK_THROWS_AS(processor().sum(Array(DType::kInt32, {4})), base::InternalError);
  CHECK_THROWS_AS(processor().sum_of_squares(Tensor()), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
