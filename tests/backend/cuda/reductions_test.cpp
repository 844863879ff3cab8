#include "backend/cuda_scratch.h"
#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index rows, columns, padding;
};

TEST_CASE("cuda: sum and sum_of_squares agree with the cpu's, in every order the same") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{0, 5, 0}, Case{3, 0, 1}, Case{1, 1, 0}, Case{7, 64, 3},
                             Case{1000, 33, 0}, Case{1000, 33, 2}, Case{2, 35001, 1});
  Device device;
  Array in(dtype, {size.rows, size.columns}, size.padding);
  in.random(1);
  const double first = device.sum(in);
  const double first_squares = device.sum_of_squares(in);
  // Double sums of some ten thousand numbers near 1, in two orders.
  CHECK(first == Approx(processor().sum(in)).epsilon(1e-12).margin(1e-9));
  CHECK(first_squares == Approx(processor().sum_of_squares(in)).epsilon(1e-12));
  for (const shim::Order order : kOrders) {
    CHECK(Device(order).sum(in) == first);
    CHECK(Device(order).sum_of_squares(in) == first_squares);
  }
}

TEST_CASE("cuda: sums do not depend on where the elements lie") {
  const DType dtype = every_float();
  Device device;
  Array in(dtype, {40000});
  in.random(1);
  const Shifted moved(in, GENERATE(1, 3));
  CHECK(device.sum(moved) == device.sum(in));
  CHECK(device.sum_of_squares(moved) == device.sum_of_squares(in));
}

TEST_CASE("cuda: sums take the scratch that plans count") {
  Device device;
  const Array in(DType::kFloat32, {3, 50000}, 1);
  device.sum(Array(in).fill(1.0));
  CHECK(device.scratch_sizes() == std::vector{sum_scratch_bytes(in)});
}

TEST_CASE("cuda: one element that is not finite shows in the sums") {
  const DType dtype = every_float();
  const Index at = GENERATE(0, 17, 39999);
  Device device;
  Array in(dtype, {40000});
  in.fill(1.0);
  in.set(at, GENERATE(double{NAN}, double{INFINITY}));
  CHECK_FALSE(std::isfinite(device.sum_of_squares(in)));
  CHECK_FALSE(std::isfinite(device.sum(in)));
}

TEST_CASE("cuda: sum refuses integers and nothing at all") {
  Device device;
  CHECK_THROWS_AS(device.sum(Array(DType::kInt32, {4})), base::InternalError);
  CHECK_THROWS_AS(device.sum_of_squares(Tensor()), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
