#include "backend/elementwise/dynamic_map.h"
#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct State {
  State(DType dtype, Index size)
      : master(DType::kFloat32, {size}),
        weight(dtype, {size}),
        codes(2, std::vector<std::uint8_t>(static_cast<std::size_t>(size))),
        scales(2, std::vector<float>(static_cast<std::size_t>((size + 255) / 256))) {
    master.random(1);
    weight.fill(5.0);
  }

  void update(Backend& on, const Tensor& gradient, std::int64_t number, bool with_weight) {
    const auto code = [&](std::size_t i) {
      return Tensor(nullptr, codes[i].data(), DType::kUInt8, {master.elements()});
    };
    const auto scale = [&](std::size_t i) {
      return Tensor(nullptr, scales[i].data(), DType::kFloat32,
                    {static_cast<Index>(scales[i].size())});
    };
    on.adamw_8bit(with_weight ? weight.tensor() : Tensor(), master, code(0), scale(0), code(1),
                  scale(1), gradient, adamw_options(number));
  }

  Array master;
  Array weight;
  std::vector<std::vector<std::uint8_t>> codes;
  std::vector<std::vector<float>> scales;
};

void compare(DType dtype, Index size, bool with_weight, shim::Order order) {
  State expected(dtype, size);
  State found(dtype, size);
  Array gradient(DType::kFloat32, {size});
  for (int number = 1; number <= 3; ++number) {
    gradient.random(static_cast<std::uint64_t>(number));
    if (size > 3) gradient.set(3, 0.0);
    Device device(order);
    found.update(device, gradient, number, with_weight);
    expected.update(processor(), gradient, number, with_weight);
  }
  // Products and sums may be rounded together on one device and apart on the other; then a moment
  // between two codes may go to either, and masters follow.
  require_close(found.master, expected.master.values(), 2e-3);
  std::size_t others = 0;
  for (std::size_t which : {0U, 1U}) {
    for (std::size_t block = 0; block < expected.scales[which].size(); ++block) {
      CHECK(found.scales[which][block] == Approx(expected.scales[which][block]).epsilon(1e-2));
    }
    for (std::size_t i = 0; i < expected.codes[which].size(); ++i) {
      const int off = std::abs(found.codes[which][i] - expected.codes[which][i]);
      CHECK(off <= 1);
      others += off > 0 ? 1 : 0;
    }
  }
  CHECK(others <= expected.codes[0].size() / 100);
  for (Index i = 0; with_weight && i < size; ++i) {
    Array rounded(dtype, {1});
    rounded.set(0, found.master.get(i));
    CHECK(found.weight.get(i) == rounded.get(0));
  }
}

TEST_CASE("cuda: adamw_8bit does what the cpu's does") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const bool with_weight = GENERATE(true, false);
  for (const shim::Order order : kOrders) {
    for (const Index size : {0, 1, 255, 256, 257, 1500}) compare(dtype, size, with_weight, order);
  }
}

TEST_CASE("cuda: adamw_8bit goes through more blocks than it launches") {
  const Index size = 256 * 1025 + 3;
  State expected(DType::kFloat32, size);
  State found(DType::kFloat32, size);
  Array gradient(DType::kFloat32, {size});
  gradient.random(2);
  Device device;
  found.update(device, gradient, 1, false);
  expected.update(processor(), gradient, 1, false);
  for (Index i = 256 * 1023; i < size; ++i) {
    REQUIRE(found.master.get(i) == Approx(expected.master.get(i)).epsilon(1e-5));
  }
  CHECK(found.scales[0].back() == Approx(expected.scales[0].back()));
}

TEST_CASE("cuda: adamw_8bit refuses what the cpu's refuses") {
  State state(DType::kFloat32, 300);
  Device device;
  CHECK_THROWS_WITH(state.update(device, Array(DType::kFloat32, {299}), 1, false),
                    "adamw_8bit: gradient is float32 [299]; expected float32 [300]");
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
