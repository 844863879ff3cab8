#include <numeric>

#include "longspan/backend/dry.h"
#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

/// a b^T of rows, in double.
double row_dot(const Array& a, Index i, const Array& b, Index j, Index columns) {
  double sum = 0;
  for (Index c = 0; c < columns; ++c) sum += a.get(i * columns + c) * b.get(j * columns + c);
  return sum;
}

/// A symmetric matrix of these eigenvalues, whose eigenvectors are the rows of `vectors`: unit
/// vectors turned by reflections.
Array with_eigenvalues(DType dtype, const std::vector<double>& values, Array& vectors) {
  const auto n = static_cast<Index>(values.size());
  vectors.fill(0.0);
  for (Index i = 0; i < n; ++i) vectors.set(i * n + i, 1.0);
  for (std::uint64_t salt = 0; salt < 3; ++salt) {
    Array axis(DType::kFloat64, {n});
    axis.random(40 + salt);
    const double squares = dot(axis, axis);
    for (Index i = 0; i < n; ++i) {
      double share = 0;
      for (Index c = 0; c < n; ++c) share += vectors.get(i * n + c) * axis.get(c);
      for (Index c = 0; c < n; ++c) {
        vectors.set(i * n + c, vectors.get(i * n + c) - 2 * share / squares * axis.get(c));
      }
    }
  }
  Array matrix(dtype, {n, n});
  for (Index a = 0; a < n; ++a) {
    for (Index b = 0; b < n; ++b) {
      double sum = 0;
      for (Index i = 0; i < n; ++i) {
        sum +=
            values[static_cast<std::size_t>(i)] * vectors.get(i * n + a) * vectors.get(i * n + b);
      }
      matrix.set(a * n + b, sum);
    }
  }
  return matrix;
}

}  // namespace

TEST_CASE("principal directions are the eigenvectors of the largest eigenvalues, in order") {
  const DType dtype = GENERATE(DType::kFloat64, DType::kFloat32);
  const Index n = GENERATE(1, 2, 7, 60);
  std::vector<double> values;
  for (Index i = 0; i < n; ++i) values.push_back(std::pow(0.7, static_cast<double>(i)));
  Array vectors(DType::kFloat64, {n, n});
  const Array gram = with_eigenvalues(dtype, values, vectors);
  for (const Index count : {Index{1}, (n + 1) / 2, std::min<Index>(n, 9)}) {
    INFO(count << " of " << n);
    Array found(dtype, {count, n});
    processor().principal_directions(found, gram);
    const double tolerance = dtype == DType::kFloat64 ? 1e-7 : 1e-4;
    for (Index i = 0; i < count; ++i) {
      for (Index j = 0; j <= i; ++j) {
        CHECK(std::abs(row_dot(found, i, found, j, n) - (i == j ? 1 : 0)) < 1e-6);
      }
      CHECK(std::abs(row_dot(found, i, vectors, i, n)) == Approx(1.0).epsilon(tolerance));
      double largest = 0;
      for (Index c = 0; c < n; ++c) {
        const double value = found.get(i * n + c);
        if (std::abs(value) > std::abs(largest)) largest = value;
      }
      CHECK(largest > 0);
    }
  }
}

TEST_CASE("all directions of a matrix of any eigenvalues diagonalise it") {
  const Index n = 40;
  std::vector<double> values(static_cast<std::size_t>(n), 1.0);
  for (std::size_t i = 0; i < 10; ++i) values[i] = 5.0;  // many are equal
  Array vectors(DType::kFloat64, {n, n});
  const Array gram = with_eigenvalues(DType::kFloat64, values, vectors);
  Array found(DType::kFloat64, {n, n});
  processor().principal_directions(found, gram);
  for (Index i = 0; i < n; ++i) {
    Array image(DType::kFloat64, {1, n});
    for (Index c = 0; c < n; ++c) image.set(c, row_dot(gram, c, found, i, n));
    for (Index j = 0; j < n; ++j) {
      const double expected = i == j ? values[static_cast<std::size_t>(i)] : 0.0;
      CHECK(std::abs(row_dot(image, 0, found, j, n) - expected) < 1e-9);
    }
  }
}

TEST_CASE("directions of a matrix of low rank, or of zeros, are orthonormal all the same") {
  const Index n = 30;
  std::vector<double> values(static_cast<std::size_t>(n), 0.0);
  const int rank = GENERATE(0, 1, 3);
  std::fill_n(values.begin(), rank, 2.0);
  Array vectors(DType::kFloat64, {n, n});
  const Array gram = with_eigenvalues(DType::kFloat64, values, vectors);
  Array found(DType::kFloat64, {12, n});
  processor().principal_directions(found, gram);
  for (Index i = 0; i < 12; ++i) {
    for (Index j = 0; j <= i; ++j) {
      CHECK(std::abs(row_dot(found, i, found, j, n) - (i == j ? 1 : 0)) < 1e-10);
    }
  }
}

TEST_CASE("principal directions are the same bits on one thread and on two") {
  const Index n = 200;
  Array gram(DType::kFloat32, {n, n});
  Array factor(DType::kFloat32, {n, n});
  factor.random(3);
  processor().matmul(gram, factor, factor, {.transpose_b = true});
  Array one(DType::kFloat32, {20, n});
  Array two(DType::kFloat32, {20, n});
  {
    const Threads threads(1);
    processor().principal_directions(one, gram);
  }
  processor().principal_directions(two, gram);
  CHECK(one.same_bits(two));
}

TEST_CASE("principal directions refuse what breaks their contract") {
  const Array gram(DType::kFloat32, {4, 4});
  CHECK_THROWS_WITH(processor().principal_directions(Array(DType::kFloat32, {5, 4}), gram),
                    "principal_directions: directions is float32 [5, 4]; expected at most as many "
                    "rows as columns");
  CHECK_THROWS_AS(processor().principal_directions(Array(DType::kFloat64, {2, 4}), gram),
                  base::InternalError);
  CHECK_THROWS_AS(processor().principal_directions(Array(DType::kFloat32, {2, 4}),
                                                   Array(DType::kFloat32, {4, 5})),
                  base::InternalError);
}

}  // namespace longspan::backend::testing
