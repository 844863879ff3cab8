#include "backend/cuda_scratch.h"
#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, vocab, hidden, padding;
};

/// Ids of all sizes: half of them below 4, so that some are frequent.
Array make_ids(Index tokens, Index vocab) {
  Array ids(DType::kInt32, {tokens});
  ids.random_ids(1, vocab);
  for (Index t = 0; t < tokens; t += 2) {
    ids.set(t, std::fmod(ids.get(t), static_cast<double>(std::min<Index>(vocab, 4))));
  }
  return ids;
}

TEST_CASE("cuda: gather_rows copies as the cpu's does") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{0, 5, 3, 0}, Case{1, 1, 1, 0}, Case{7, 64, 64, 3},
                             Case{100, 7, 33, 1}, Case{9, 1000, 304, 0}, Case{21, 50257, 16, 8});
  Array table(dtype, {size.vocab, size.hidden}, size.padding);
  for (Index i = 0; i < table.elements(); ++i) table.set(i, static_cast<double>(i % 251) - 125.0);
  Array ids = make_ids(size.tokens, size.vocab);
  for (Index t = 2; t < size.tokens; t += 3) ids.set(t, t % 2 == 0 ? -1 : -100);
  Array expected(dtype, {size.tokens, size.hidden});
  processor().gather_rows(expected, ids, table);
  for (const shim::Order order : kOrders) {
    Array out(dtype, {size.tokens, size.hidden}, size.padding == 0 ? 2 : 0);
    Device(order).gather_rows(out, ids, table);
    CHECK(out.same_bits(expected));
    CHECK(out.gaps_untouched());
  }
}

TEST_CASE("cuda: embedding_backward adds as the cpu's does, in every order the same") {
  const DType dtype = every_float();
  // The last ones have ids more frequent than one thread sums, and several blocks of the sort.
  const Case size =
      GENERATE(Case{0, 5, 3, 0}, Case{1, 1, 1, 0}, Case{7, 64, 64, 3}, Case{500, 7, 33, 1},
               Case{200, 3000, 304, 0}, Case{90, 50257, 16, 8}, Case{1100, 1, 8, 0},
               Case{4100, 70000, 3, 0}, Case{4500, 5, 8, 0}, Case{2048, 300, 136, 0});
  Device device;
  const Array ids = make_ids(size.tokens, size.vocab);
  Array dy(dtype, {size.tokens, size.hidden}, size.padding);
  dy.random(2);
  Array expected(wide(dtype), {size.vocab, size.hidden}, size.padding);
  for (Index i = 0; i < expected.elements(); ++i) expected.set(i, static_cast<double>(i % 3));
  const Array before = expected;
  Array first = before;
  device.embedding_backward(first, dy, ids);
  processor().embedding_backward(expected, dy, ids);
  // An id of at most 512 tokens is summed in their order. Of others the order differs, and each of
  // the sums of at most 4500 numbers near 1 that grow to 100 is rounded.
  if (size.tokens <= kSumTokens) {
    CHECK(first.same_bits(expected));
  } else {
    require_close(first, expected.values(), 4500.0 * unit_roundoff(wide(dtype)));
  }
  CHECK(first.gaps_untouched());
  for (const shim::Order order : kOrders) {
    Array again = before;
    Device(order).embedding_backward(again, dy, ids);
    CHECK(again.same_bits(first));
  }
}

TEST_CASE("cuda: embedding_backward sums the same where its rows are not aligned") {
  const DType dtype = every_float();
  Device device;
  const Array ids = make_ids(1500, 40);
  Array dy(dtype, {1500, 16});
  dy.random(2);
  Array dense(wide(dtype), {40, 16});
  dense.fill(1.0);
  device.embedding_backward(dense, dy, ids);
  Array odd(dtype, {1500, 16}, 1);
  for (Index i = 0; i < dy.elements(); ++i) odd.set(i, dy.get(i));
  Array padded(wide(dtype), {40, 16}, 3);
  padded.fill(1.0);
  device.embedding_backward(padded, odd, ids);
  CHECK(padded.same_bits(dense));
}

TEST_CASE("cuda: embedding_backward takes the scratch that plans count") {
  Device device;
  Array dy(DType::kBFloat16, {700, 24});
  dy.random(2);
  Array dtable(DType::kFloat32, {9, 24});
  dtable.fill(0.0);
  device.embedding_backward(dtable, dy, make_ids(700, 9));
  CHECK(device.scratch_sizes() ==
        std::vector{EmbeddingBackwardScratch(700, 24, DType::kBFloat16).bytes});
}

TEST_CASE("cuda: an id beyond the table gives NaN, and is left out of the gradient") {
  const DType dtype = every_float();
  Device device;
  Array ids(DType::kInt32, {4});
  for (Index t = 0; t < 4; ++t) ids.set(t, static_cast<double>(t + 1));
  Array table(dtype, {4, 8});
  table.random(1);
  Array out(dtype, {4, 8});
  device.gather_rows(out, ids, table);
  for (Index h = 0; h < 8; ++h) {
    CHECK(out.get(h) == table.get(8 + h));
    CHECK(std::isnan(out.get(3 * 8 + h)));
  }
  Array dtable(wide(dtype), {4, 8});
  dtable.fill(0.0);
  ids.set(0, -1);
  Array dy(dtype, {4, 8});
  dy.fill(1.0);
  device.embedding_backward(dtable, dy, ids);
  for (Index i = 0; i < 32; ++i) CHECK(dtable.get(i) == (i < 16 ? 0.0 : 1.0));
}

TEST_CASE("cuda: embedding refuses wrong tensors") {
  const Array table(DType::kFloat32, {5, 3});
  const Array out(DType::kFloat32, {4, 3});
  const Array ids(DType::kInt32, {4});
  CHECK_THROWS_AS(Device().gather_rows(Array(DType::kBFloat16, {4, 3}), ids, table),
                  base::InternalError);
  CHECK_THROWS_AS(Device().embedding_backward(table, Array(DType::kFloat32, {4, 2}), ids),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
