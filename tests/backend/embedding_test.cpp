#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, vocab, hidden, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 5, 3, 0}, Case{1, 1, 1, 0}, Case{7, 64, 64, 3}, Case{1000, 7, 33, 1},
                  Case{200, 3000, 300, 0}, Case{300, 70000, 3, 0});
}

Array make_ids(Index tokens, Index vocab) {
  Array ids(DType::kInt32, {tokens});
  return ids.random_ids(1, vocab);
}

TEST_CASE("gather_rows copies rows, and writes zeros for negative ids") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array table(dtype, {size.vocab, size.hidden}, size.padding);
  for (Index i = 0; i < table.elements(); ++i) table.set(i, static_cast<double>(i % 251) - 125.0);
  Array ids = make_ids(size.tokens, size.vocab);
  for (Index t = 2; t < size.tokens; t += 3) ids.set(t, t % 2 == 0 ? -1 : -100);
  Array out(dtype, {size.tokens, size.hidden}, size.padding == 0 ? 2 : 0);
  processor().gather_rows(out, ids, table);
  std::vector<double> expected;
  for (Index t = 0; t < size.tokens; ++t) {
    for (Index h = 0; h < size.hidden; ++h) {
      const auto id = static_cast<Index>(ids.get(t));
      expected.push_back(id < 0 ? 0.0 : table.get(id * size.hidden + h));
    }
  }
  require_close(out, expected, 0.0);
}

TEST_CASE("embedding_backward adds each row in token order") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array ids = make_ids(size.tokens, size.vocab);
  Array dy(dtype, {size.tokens, size.hidden}, size.padding);
  dy.random(2);
  Array expected(wide(dtype), {size.vocab, size.hidden});
  for (Index i = 0; i < expected.elements(); ++i) expected.set(i, static_cast<double>(i % 3));
  Array dtable(wide(dtype), {size.vocab, size.hidden}, size.padding == 0 ? 1 : 0);
  for (Index i = 0; i < dtable.elements(); ++i) dtable.set(i, static_cast<double>(i % 3));
  for (Index i = 0; i < dy.elements(); ++i) {
    const Index at = static_cast<Index>(ids.get(i / size.hidden)) * size.hidden + i % size.hidden;
    expected.set(at, expected.get(at) + dy.get(i));  // rounds each sum as the kernel must
  }
  processor().embedding_backward(dtable, dy, ids);
  CHECK(dtable.same_bits(expected));
  CHECK(dtable.gaps_untouched());
}

TEST_CASE("embedding_backward is the adjoint of gather_rows") {
  Array table(DType::kFloat64, {9, 4});
  Array dy(DType::kFloat64, {20, 4});
  table.random(1);
  dy.random(2);
  const Array ids = make_ids(20, 9);
  Array out(DType::kFloat64, {20, 4});
  Array dtable(DType::kFloat64, {9, 4});
  dtable.fill(0.0);
  processor().embedding_backward(dtable, dy, ids);
  require_close(dtable,
                finite_difference(table,
                                  [&] {
                                    processor().gather_rows(out, ids, table);
                                    return dot(out, dy);
                                  }),
                kDifferenceTolerance);
}

TEST_CASE("embedding_backward gives the same bits on one thread and on two") {
  const Array ids = make_ids(2000, 50);
  Array dy(DType::kBFloat16, {2000, 300});
  dy.random(2);
  Array one(DType::kFloat32, {50, 300});
  Array two(DType::kFloat32, {50, 300});
  one.fill(0.0);
  two.fill(0.0);
  {
    const Threads threads(1);
    processor().embedding_backward(one, dy, ids);
  }
  const Threads threads(2);
  processor().embedding_backward(two, dy, ids);
  CHECK(one.same_bits(two));
}

TEST_CASE("embedding refuses ids outside the vocabulary and wrong tensors") {
  const Array table(DType::kFloat32, {5, 3});
  const Array out(DType::kFloat32, {4, 3});
  Array ids(DType::kInt32, {4});
  ids.fill(2);
  ids.set(3, 5);
  CHECK_THROWS_WITH(processor().gather_rows(out, ids, table),
                    Catch::Contains("gather_rows: ids[3] is 5;") && Catch::EndsWith("to 4"));
  ids.set(3, -1);
  CHECK_THROWS_AS(processor().embedding_backward(table, out, ids), base::InternalError);
  ids.set(3, 0);
  CHECK_THROWS_AS(processor().gather_rows(Array(DType::kBFloat16, {4, 3}), ids, table),
                  base::InternalError);
  CHECK_THROWS_AS(processor().embedding_backward(Array(DType::kBFloat16, {5, 3}), out, ids),
                  base::InternalError);
  CHECK_THROWS_AS(processor().embedding_backward(table, Array(DType::kFloat32, {4, 2}), ids),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
