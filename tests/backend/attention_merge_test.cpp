#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/base/error.h"

namespace longspan::backend {
namespace {

using base::DType;

constexpr Index kTokens = 37;
constexpr Index kHeads = 3;
constexpr Index kHeadDim = 8;

class Bench {
 public:
  explicit Bench(DType dtype) : dtype_(dtype), backend_(make_cpu_backend(std::size_t{8} << 20U)) {}

  Tensor random(Index tokens, std::uint64_t stream) {
    const Tensor tensor = make({tokens, kHeads, kHeadDim}, dtype_);
    backend_->random_normal(tensor, {3, base::Purpose::kTest, 0, stream}, 1.0, 0);
    return tensor;
  }
  Tensor make(const Shape& shape, DType dtype) {
    return backend_->allocate(shape, dtype, MemoryTag::kWorkspace);
  }
  DType statistic() const { return dtype_ == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }
  /// Every query sees every key.
  void attend(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
              const Tensor& v) {
    backend_->attention_forward(out, lse, q, k, v, {0, static_cast<std::int32_t>(q.size(0))},
                                {0, static_cast<std::int32_t>(k.size(0))},
                                {.scale = 0.35F, .causal = false});
  }
  std::vector<double> values(const Tensor& tensor) {
    const Tensor exact = make(tensor.shape(), DType::kFloat64);
    backend_->copy(exact, tensor);
    return {exact.data<double>(), exact.data<double>() + exact.elements()};
  }
  Backend& backend() { return *backend_; }

 private:
  DType dtype_;
  std::unique_ptr<Backend> backend_;
};

void check_close(const std::vector<double>& found, const std::vector<double>& expected,
                 double tolerance) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(std::abs(found[i] - expected[i]) <= tolerance * (1.0 + std::abs(expected[i])));
  }
}

TEST_CASE("attention over blocks of keys, merged, is attention over all of them") {
  const auto [dtype, tolerance] =
      GENERATE(std::pair{DType::kFloat64, 1e-13}, std::pair{DType::kFloat32, 1e-5},
               std::pair{DType::kBFloat16, 1e-2});
  Bench bench(dtype);
  if (!bench.backend().supports(dtype, nullptr)) return;
  const Index keys = 90;
  const Tensor q = bench.random(kTokens, 1);
  const Tensor k = bench.random(keys, 2);
  const Tensor v = bench.random(keys, 3);
  const Tensor whole = bench.make(q.shape(), dtype);
  const Tensor whole_lse = bench.make({kHeads, kTokens}, bench.statistic());
  bench.attend(whole, whole_lse, q, k, v);

  const Tensor sum = bench.make(q.shape(), bench.statistic());
  const Tensor lse = bench.make({kHeads, kTokens}, bench.statistic());
  bench.backend().zero(sum);
  bench.backend().fill(lse, -std::numeric_limits<double>::infinity());  // no keys so far
  const Tensor block = bench.make(q.shape(), dtype);
  // A view of wider rows, as a range of queries of an lse is.
  const Tensor block_lse =
      bench.make({kHeads, kTokens + 5}, bench.statistic()).columns(2, 2 + kTokens);
  for (const auto& [begin, end] : {std::pair{0, 1}, std::pair{1, 60}, std::pair{60, 90}}) {
    bench.attend(block, block_lse, q, k.rows(begin, end), v.rows(begin, end));
    bench.backend().attention_merge(sum, lse, block, block_lse);
  }
  check_close(bench.values(sum), bench.values(whole), tolerance);
  check_close(bench.values(lse), bench.values(whole_lse), tolerance);

  SECTION("no keys change nothing, whatever their output says") {
    const auto before = bench.values(sum);
    bench.backend().fill(block, std::numeric_limits<double>::quiet_NaN());
    bench.backend().fill(block_lse, -std::numeric_limits<double>::infinity());
    bench.backend().attention_merge(sum, lse, block, block_lse);
    CHECK(bench.values(sum) == before);
  }
}

TEST_CASE("merging attention checks what it is given") {
  Bench bench(DType::kFloat32);
  const Tensor out = bench.random(4, 1);
  const Tensor lse = bench.make({kHeads, 4}, DType::kFloat32);
  const Tensor narrow = bench.make({4, kHeads}, DType::kFloat32);
  CHECK_THROWS_AS(bench.backend().attention_merge(out, narrow, out, lse), base::InternalError);
  CHECK_THROWS_AS(bench.backend().attention_merge(out, lse, bench.random(5, 2), lse),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend
