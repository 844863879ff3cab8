#include "backend/elementwise/dropout.h"

#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

const base::RandomStream kStream(11, base::Purpose::kDropout, 3, 5);

Array numbers_of(const std::vector<int>& values) {
  Array numbers(DType::kInt32, {static_cast<Index>(values.size())});
  for (std::size_t i = 0; i < values.size(); ++i) {
    numbers.set(static_cast<Index>(i), values[i]);
  }
  return numbers;
}

Array counting(Index rows, int first) {
  std::vector<int> values;
  for (Index i = 0; i < rows; ++i) values.push_back(first + static_cast<int>(i));
  return numbers_of(values);
}

TEST_CASE("dropout keeps an element or not, and scales what it keeps") {
  const DType dtype = every_float();
  const Index columns = GENERATE(1, 3, 4, 33, 1000);
  const Index padding = GENERATE(0, 3);
  const double probability = GENERATE(0.0, 0.25, 0.9);
  Array x(dtype, {37, columns}, padding);
  x.random(1);
  Array out(dtype, {37, columns}, padding);
  processor().dropout(out, x, counting(37, 0), kStream, probability);
  Array expected(dtype, {37, columns});
  for (Index t = 0; t < 37; ++t) {
    for (Index i = 0; i < columns; ++i) {
      const auto block = kStream.block(static_cast<std::uint64_t>(t * ((columns + 3) / 4) + i / 4));
      const bool keeps = block.word[i % 4] >= probability * 0x1.0p32;
      const double value = x.get(t * columns + i);
      const double scaled =
          dtype == DType::kFloat64
              ? value * (1.0 / (1.0 - probability))
              : static_cast<float>(value) * static_cast<float>(1.0 / (1.0 - probability));
      expected.set(t * columns + i, keeps ? scaled : 0.0);
    }
  }
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
  processor().dropout(x, x, counting(37, 0), kStream, probability);
  CHECK(x.same_bits(out));
}

TEST_CASE(
    "dropout: a row's mask goes with its number, wherever it lies, on any number of threads") {
  Array x(DType::kFloat32, {600, 50});
  x.random(1);
  Array whole(DType::kFloat32, {600, 50});
  processor().dropout(whole, x, counting(600, 100), kStream, 0.5);
  const Threads threads(1);
  Array part(DType::kFloat32, {2, 50});
  Array rows(DType::kFloat32, {2, 50});
  for (Index i = 0; i < 50; ++i) {
    rows.set(i, x.get(599 * 50 + i));
    rows.set(50 + i, x.get(7 * 50 + i));
  }
  processor().dropout(part, rows, numbers_of({699, 107}), kStream, 0.5);
  for (Index i = 0; i < 50; ++i) {
    CHECK(part.get(i) == whole.get(599 * 50 + i));
    CHECK(part.get(50 + i) == whole.get(7 * 50 + i));
  }
}

TEST_CASE("dropout drops with the probability asked for, in rows and in columns") {
  Array x(DType::kFloat32, {1000, 100});
  for (Index i = 0; i < x.elements(); ++i) x.set(i, 1.0);
  Array out(DType::kFloat32, {1000, 100});
  processor().dropout(out, x, counting(1000, 0x7FFFFC00), kStream, 0.1);
  double kept = 0.0;
  double neighbours = 0.0;  // both kept
  for (Index i = 0; i + 1 < out.elements(); ++i) {
    kept += out.get(i) > 0.0 ? 1.0 : 0.0;
    neighbours += out.get(i) > 0.0 && out.get(i + 1) > 0.0 ? 1.0 : 0.0;
  }
  // Five standard errors.
  CHECK(std::abs(kept / 1e5 - 0.9) < 5.0 * std::sqrt(0.09 / 1e5));
  CHECK(std::abs(neighbours / 1e5 - 0.81) < 5.0 * std::sqrt(0.19 * 0.81 / 1e5) * 1.5);
}

TEST_CASE("dropout refuses what breaks its contract") {
  const Array x(DType::kFloat32, {4, 6});
  const Array numbers = counting(4, 0);
  CHECK_THROWS_WITH(processor().dropout(x, x, counting(3, 0), kStream, 0.5),
                    "dropout: numbers is int32 [3]; expected int32 [4]");
  CHECK_THROWS_AS(processor().dropout(x, Array(DType::kInt32, {4, 6}), numbers, kStream, 0.5),
                  base::InternalError);
  CHECK_THROWS_AS(processor().dropout(Array(DType::kFloat32, {4, 5}), x, numbers, kStream, 0.5),
                  base::InternalError);
  for (const double probability : {-0.1, 1.0, std::nan("")}) {
    CHECK_THROWS_AS(processor().dropout(x, x, numbers, kStream, probability), base::InternalError);
  }
}

}  // namespace
}  // namespace longspan::backend::testing
