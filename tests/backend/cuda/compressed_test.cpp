#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, groups, length, padding;
};

/// Groups of less and more than a warp, and more than there are lanes at once.
Case awkward_size() {
  return GENERATE(Case{0, 2, 8, 0}, Case{1, 1, 1, 0}, Case{7, 3, 64, 0}, Case{5, 7, 3, 3},
                  Case{3, 1, 1000, 1}, Case{60, 2, 37, 0});
}

TEST_CASE("cuda: project gives the cpu's products") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array x(dtype, {size.tokens, size.groups * size.length}, size.padding);
  x.random(1);
  Array direction(wide(dtype), {size.length});
  direction.random(2);
  Array out(dtype, {size.tokens, size.groups}, size.padding);
  Array expected(dtype, {size.tokens, size.groups});
  device.project(out, x, direction, 1.5);
  processor().project(expected, x, direction, 1.5);
  // Sums in another order, and then perhaps rounded to the other neighbour.
  const double sum = static_cast<double>(size.length) * 16.0 * unit_roundoff(wide(dtype));
  require_near(out, expected, 2.0 * unit_roundoff(dtype), sum);
}

TEST_CASE("cuda: adamw of compressed gradients does what the cpu's does") {
  Device device(every_order());
  const DType dtype = every_float();
  const bool with_weight = GENERATE(true, false);
  const Index length = GENERATE(1, 5, 64);
  for (const Index numbers : {0, 1, 333}) {
    const Index elements = numbers * length;
    const auto filled = [&](Index count, std::uint64_t seed) {
      Array array(wide(dtype), {count});
      array.random(seed, 0.5);
      return array;
    };
    const Array gradient = filled(numbers, 4);
    const Array direction = filled(length, 5);
    Array squares(wide(dtype), {numbers});
    for (Index i = 0; i < numbers; ++i) squares.set(i, 0.01 * static_cast<double>(1 + i % 7));
    const Array master = filled(elements, 1);
    const Array moment1 = filled(numbers, 2);
    const Array moment2 = squares;
    const Array weight(dtype, {elements});
    const Array expected_master = master;
    const Array expected_moment1 = moment1;
    const Array expected_moment2 = squares;
    const Array expected_weight(dtype, {elements});
    const Tensor none;
    device.adamw_compressed(with_weight ? weight.tensor() : none, master, moment1, moment2,
                            gradient, direction, adamw_options(3));
    processor().adamw_compressed(with_weight ? expected_weight.tensor() : none, expected_master,
                                 expected_moment1, expected_moment2, gradient, direction,
                                 adamw_options(3));
    const double tolerance = 8.0 * unit_roundoff(wide(dtype));
    require_close(master, expected_master.values(), tolerance);
    require_close(moment1, expected_moment1.values(), tolerance);
    require_close(moment2, expected_moment2.values(), tolerance);
    if (with_weight) {
      Array rounded(dtype, {elements});
      for (Index i = 0; i < elements; ++i) rounded.set(i, master.get(i));
      CHECK(weight.same_bits(rounded));
    }
  }
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
