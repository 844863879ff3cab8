#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/base/error.h"
#include "longspan/base/random.h"

using namespace longspan;
using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using base::DType;

namespace {

/// A random [rows, columns] view with `gap` elements between its rows.
Tensor random_matrix(backend::Backend& backend, Index rows, Index columns, Index gap, DType dtype,
                     std::uint64_t layer) {
  const auto wide = backend.allocate({rows, columns + gap}, dtype, MemoryTag::kWorkspace);
  backend.random_normal(wide, {3, base::Purpose::kTest, 0, layer}, 1.0, 0);
  return wide.columns(0, columns);
}

std::vector<double> values(backend::Backend& backend, const Tensor& tensor) {
  const auto dense = backend.allocate(tensor.shape(), DType::kFloat64, MemoryTag::kWorkspace);
  backend.copy(dense, tensor);
  return {dense.data<double>(), dense.data<double>() + dense.elements()};
}

struct Sizes {
  Index m, n, k;
};

/// Largest |found - expected| over the largest sum of |a||b|: the scale of rounding.
double product_error(backend::Backend& backend, const Sizes& s, DType in, DType out_dtype,
                     const backend::MatmulOptions& options, Index gap) {
  const Tensor a = options.transpose_a ? random_matrix(backend, s.k, s.m, gap, in, 1)
                                       : random_matrix(backend, s.m, s.k, gap, in, 1);
  const Tensor b = options.transpose_b ? random_matrix(backend, s.n, s.k, gap, in, 2)
                                       : random_matrix(backend, s.k, s.n, gap, in, 2);
  const Tensor out = random_matrix(backend, s.m, s.n, gap, out_dtype, 3);
  const auto va = values(backend, a);
  const auto vb = values(backend, b);
  const auto before = values(backend, out);
  backend.matmul(out, a, b, options);
  const auto found = values(backend, out);
  double worst = 0;
  double scale = 1e-30;
  for (Index i = 0; i < s.m; ++i) {
    for (Index j = 0; j < s.n; ++j) {
      const auto at = static_cast<std::size_t>(i * s.n + j);
      double sum = options.accumulate ? before[at] : 0.0;
      double magnitude = std::abs(sum);
      for (Index l = 0; l < s.k; ++l) {
        const double x =
            va[static_cast<std::size_t>(options.transpose_a ? l * s.m + i : i * s.k + l)];
        const double y =
            vb[static_cast<std::size_t>(options.transpose_b ? j * s.k + l : l * s.n + j)];
        sum += x * y;
        magnitude += std::abs(x * y);
      }
      worst = std::max(worst, std::abs(found[at] - sum));
      scale = std::max(scale, magnitude);
    }
  }
  return worst / scale;
}

}  // namespace

TEST_CASE("matmul agrees with the definition in every form", "[matmul]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  struct Types {
    DType in, out;
    double tolerance;
  };
  // A bfloat16 result is rounded to 8 bits once; float32 sums of k terms err by about sqrt(k) ulp.
  const std::vector<Types> types = {{DType::kFloat64, DType::kFloat64, 1e-14},
                                    {DType::kFloat32, DType::kFloat32, 1e-6},
                                    {DType::kBFloat16, DType::kFloat32, 1e-6},
                                    {DType::kBFloat16, DType::kBFloat16, 4e-3}};
  const std::vector<Sizes> sizes = {{1, 1, 1}, {5, 7, 3}, {64, 48, 32}, {33, 130, 65}, {1, 96, 40}};
  for (const Types& type : types) {
    for (const Sizes& s : sizes) {
      for (int form = 0; form < 8; ++form) {
        for (const Index gap : {Index{0}, Index{3}}) {
          const backend::MatmulOptions options{(form & 1) != 0, (form & 2) != 0, (form & 4) != 0};
          INFO(base::name_of(type.in)
               << " " << s.m << "x" << s.n << "x" << s.k << " form " << form << " gap " << gap);
          CHECK(product_error(*backend, s, type.in, type.out, options, gap) < type.tolerance);
        }
      }
    }
  }
}

TEST_CASE("matmul over nothing", "[matmul]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    const auto a = backend->allocate({4, 0}, dtype, MemoryTag::kWorkspace);
    const auto b = backend->allocate({0, 3}, dtype, MemoryTag::kWorkspace);
    const auto out = backend->allocate({4, 3}, dtype, MemoryTag::kWorkspace);
    backend->fill(out, 2.0);
    backend->matmul(out, a, b, {false, false, true});
    CHECK(backend->sum(out) == 24.0);
    backend->matmul(out, a, b, {});
    CHECK(backend->sum(out) == 0.0);
    const auto none = backend->allocate({0, 3}, dtype, MemoryTag::kWorkspace);
    backend->matmul(none, backend->allocate({0, 4}, dtype, MemoryTag::kWorkspace), out, {});
  }
}

TEST_CASE("matmul refuses shapes and dtypes that do not fit", "[matmul]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const auto make = [&](Index rows, Index columns, DType dtype) {
    return backend->allocate({rows, columns}, dtype, MemoryTag::kWorkspace);
  };
  const auto f32 = DType::kFloat32;
  const auto bf16 = DType::kBFloat16;
  CHECK_THROWS_AS(backend->matmul(make(2, 3, f32), make(2, 4, f32), make(5, 3, f32), {}),
                  base::InternalError);
  CHECK_THROWS_AS(backend->matmul(make(2, 3, f32), make(2, 4, f32), make(4, 3, bf16), {}),
                  base::InternalError);
  CHECK_THROWS_AS(backend->matmul(make(2, 3, bf16), make(2, 4, f32), make(4, 3, f32), {}),
                  base::InternalError);
}

TEST_CASE("matmul keeps working through more shapes than it keeps primitives for", "[matmul]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  for (Index m = 1; m <= 1100; m += 1) {
    const auto a = backend->allocate({m, 2}, DType::kFloat32, MemoryTag::kWorkspace);
    const auto b = backend->allocate({2, 2}, DType::kFloat32, MemoryTag::kWorkspace);
    const auto out = backend->allocate({m, 2}, DType::kFloat32, MemoryTag::kWorkspace);
    backend->fill(a, 1.0);
    backend->fill(b, 1.0);
    backend->matmul(out, a, b, {});
    REQUIRE(backend->sum(out) == 4.0 * static_cast<double>(m));
  }
  CHECK(backend->ledger().live_total() == 0);
}
