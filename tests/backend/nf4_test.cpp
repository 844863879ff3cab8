// NF4 against bitsandbytes (scripts/fixtures/nf4_reference.py), and what its definition promises.
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "backend/elementwise/nf4.h"
#include "longspan/base/json.h"
#include "tests/backend/nf4_fixture.h"
#include "tests/support/test_data.h"

namespace longspan::backend::testing {
namespace {

/// The script's numbers.
Array reference_numbers() {
  Array x(DType::kFloat32, {Index{64} * 300});
  std::int64_t state = 2024;
  for (Index i = 0; i < x.elements(); ++i) {
    double total = 0;
    for (int draw = 0; draw < 3; ++draw) {
      state = (1103515245 * state + 12345) % (std::int64_t{1} << 31);
      total += static_cast<double>(state) / 0x1p31 - 0.5;
    }
    const Index block = i / 64;
    x.set(i, block == 7 ? 0.0 : total * (0.01 + 0.001 * static_cast<double>(block % 11)));
  }
  return x;
}

std::vector<std::uint8_t> from_hex(const std::string& text) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST_CASE("nf4: codes, sizes and values are those of bitsandbytes") {
  const nlohmann::json reference = base::read_json(test::data_folder() / "backend/data/nf4.json");
  const Array x = reference_numbers();
  Nf4 nf4(x.elements());
  nf4.quantize(processor(), x);
  CHECK(nf4.codes == from_hex(reference["codes"].get<std::string>()));
  CHECK(nf4.sizes == reference["sizes"].get<std::vector<float>>());
  CHECK(nf4.sizes[7] == 0.0F);
  CHECK(nf4.code(7 * 64) == 7);
  // PyTorch sums in float32 and another order.
  CHECK(nf4.mean == Approx(reference["mean"].get<double>()).epsilon(3e-7));
  nf4.mean = reference["mean"].get<float>();
  nf4.quantize_sizes(processor());
  CHECK(nf4.size_codes == from_hex(reference["size_codes"].get<std::string>()));
  CHECK(nf4.scales == reference["scales"].get<std::vector<float>>());
  Array out(DType::kFloat32, {x.elements()});
  nf4.dequantize(processor(), out);
  const auto values = reference["values"].get<std::vector<float>>();
  const auto stride = reference["stride"].get<Index>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    // To a rounding of the map's values, which PyTorch forms as its machine's vectors are wide.
    REQUIRE(out.get(static_cast<Index>(i) * stride) == Approx(values[i]).epsilon(1e-6));
  }
}

TEST_CASE("nf4: the code of a number is that of the nearest value, ties to the lower") {
  for (int code = 0; code < kNf4Values; ++code) {
    CHECK(nf4_code(nf4_value(code)) == code);
    if (code + 1 == kNf4Values) continue;
    const float middle = 0.5F * (nf4_value(code) + nf4_value(code + 1));
    CHECK(nf4_code(middle) == code);
    CHECK(nf4_code(std::nextafter(middle, 2.0F)) == code + 1);
  }
  CHECK(nf4_code(std::numeric_limits<float>::quiet_NaN()) == 0);
}

TEST_CASE("nf4: what comes back is within half of the widest gap, and of its size's") {
  const DType dtype = every_float();
  const Index size = GENERATE(0, 1, 2, 63, 64, 65, 1000, 40001);
  Array x(dtype, {size});
  x.random(1, 0.02);
  Nf4 nf4(size);
  nf4.quantize(processor(), x);
  Array out(dtype, {size});
  nf4.dequantize(processor(), out);
  for (Index i = 0; i < size; ++i) {
    const float most = nf4.sizes[static_cast<std::size_t>(i / 64)];
    // Sizes are off by half of their map's widest gap, 0.9 / 64 of their scale, at most.
    const float scale = nf4.scales[static_cast<std::size_t>(i / 64 / 256)];
    const double tolerance = 0.15191 * most + 0.0071 * scale + 2 * unit_roundoff(dtype) * most;
    REQUIRE(std::abs(out.get(i) - x.get(i)) <= tolerance);
  }
}

TEST_CASE("nf4: pieces of whole scales have the codes of the whole") {
  constexpr Index kPiece = kNf4Block * kNf4Scales;
  Array x(DType::kFloat32, {2 * kPiece + 100});
  x.random(2);
  Nf4 whole(x.elements());
  whole.quantize(processor(), x);
  Array all(DType::kFloat32, {x.elements()});
  whole.dequantize(processor(), all);
  for (Index begin = 0; begin < x.elements(); begin += kPiece) {
    const Index end = std::min(begin + kPiece, x.elements());
    Nf4 piece(end - begin);
    processor().nf4_quantize(Nf4::of(piece.codes), Nf4::of(piece.sizes),
                             x.tensor().rows(begin, end));
    piece.mean = whole.mean;
    piece.quantize_sizes(processor());
    Array out(DType::kFloat32, {end - begin});
    piece.dequantize(processor(), out);
    for (Index i = begin; i < end; ++i) REQUIRE(out.get(i - begin) == all.get(i));
  }
}

TEST_CASE("nf4: what is not finite shows in all values") {
  Array x(DType::kFloat32, {1000});
  x.random(3);
  x.set(500, GENERATE(std::numeric_limits<double>::quiet_NaN(),
                      std::numeric_limits<double>::infinity()));
  Nf4 nf4(1000);
  nf4.quantize(processor(), x);
  Array out(DType::kFloat32, {1000});
  nf4.dequantize(processor(), out);
  for (Index i = 0; i < 1000; ++i) REQUIRE(std::isnan(out.get(i)));
}

TEST_CASE("nf4: the same on one thread and on two") {
  Array x(DType::kFloat32, {70000});
  x.random(4);
  const auto run = [&](int threads) {
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    Nf4 nf4(x.elements());
    nf4.quantize(processor(), x);
    omp_set_num_threads(before);
    return nf4;
  };
  const Nf4 one = run(1);
  const Nf4 two = run(2);
  CHECK(one.codes == two.codes);
  CHECK(one.size_codes == two.size_codes);
  CHECK(one.scales == two.scales);
}

TEST_CASE("nf4: what does not fit is refused") {
  const Array x(DType::kFloat32, {100});
  Nf4 nf4(100);
  Nf4 other(400);
  const auto codes = Nf4::of(nf4.codes);
  CHECK_THROWS_AS(processor().nf4_quantize(Nf4::of(other.codes), Nf4::of(nf4.sizes), x),
                  base::InternalError);
  CHECK_THROWS_AS(processor().nf4_quantize(codes, Nf4::of(other.sizes), x), base::InternalError);
  CHECK_THROWS_AS(processor().nf4_quantize_sizes(Nf4::of(other.size_codes), Nf4::of(nf4.scales),
                                                 Nf4::of(nf4.sizes), 0.0F),
                  base::InternalError);
  CHECK_THROWS_AS(
      processor().nf4_dequantize(x, codes, Nf4::of(other.size_codes), Nf4::of(nf4.scales), 0.0F),
      base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
