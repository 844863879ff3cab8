// Runs on one rank and, under mpirun, on several: every rank draws the same cases and knows what
// all ranks hold.
#include "longspan/shard/reshard.h"

#include <catch2/catch.hpp>
#include <random>

#include "longspan/base/error.h"

namespace longspan::shard {
namespace {

using backend::Backend;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using base::DType;
using comm::Collective;

comm::Communicator& world() {
  static const std::unique_ptr<comm::Communicator> kWorld = comm::make_world_communicator();
  return *kWorld;
}

Backend& device() {
  static const std::unique_ptr<Backend> kBackend =
      backend::make_cpu_backend(std::size_t{64} << 20U);
  return *kBackend;
}

/// Draws that are the same on every rank.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  Index below(Index bound) {
    return static_cast<Index>(engine_() % static_cast<std::uint64_t>(bound));
  }

 private:
  std::mt19937_64 engine_;
};

/// Chunks of an axis dealt to ranks at random, in random order.
Cover random_partition(Draw& draw, Index extent, int ranks) {
  std::vector<std::vector<Range>> by_rank(static_cast<std::size_t>(ranks));
  std::vector<Range> chunks;
  for (Index begin = 0; begin < extent;) {
    const Index end = std::min(extent, begin + 1 + draw.below(4));
    chunks.push_back({begin, end});
    begin = end;
  }
  while (!chunks.empty()) {
    const auto at = chunks.begin() + draw.below(static_cast<Index>(chunks.size()));
    by_rank[static_cast<std::size_t>(draw.below(ranks))].push_back(*at);
    chunks.erase(at);
  }
  return {extent, by_rank};
}

/// Any ranges for any rank: overlapping, empty, leaving some out.
Cover random_cover(Draw& draw, Index extent, int ranks) {
  if (draw.below(3) == 0) return random_partition(draw, extent, ranks);
  std::vector<std::vector<Range>> by_rank;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<Range> ranges;
    for (Index begin = draw.below(extent + 1); begin < extent; begin += 1 + draw.below(3)) {
      const Index end = std::min(extent, begin + 1 + draw.below(5));
      ranges.push_back({begin, end});
      begin = end;
    }
    if (draw.below(2) == 0) std::reverse(ranges.begin(), ranges.end());
    by_rank.push_back(ranges);
  }
  return {extent, by_rank};
}

Move random_move(Draw& draw, int ranks) {
  const Shape shape{1 + draw.below(9), 1 + draw.below(9), 1 + draw.below(4)};
  const int from = static_cast<int>(draw.below(2));
  const int to = static_cast<int>(draw.below(2));
  return {shape,
          {from, random_partition(draw, shape[from], ranks)},
          {to, random_cover(draw, shape[to], ranks)}};
}

Shape shape_on(const Move& move, const Layout& layout, int rank) {
  const Index held = layout.cover.size(rank);
  return layout.axis == 0 ? Shape{held, move.shape[1], move.shape[2]}
                          : Shape{move.shape[0], held, move.shape[2]};
}

/// Calls visit(global index of an element, its index in the rank's part) for all that it holds.
template <typename Visit>
void for_each_held(const Move& move, const Layout& layout, int rank, const Visit& visit) {
  const auto indices = [&](int axis) {
    std::vector<Index> all;
    const std::vector<Range> whole{{0, move.shape[axis]}};
    for (const Range& range : layout.axis == axis ? layout.cover.ranges(rank) : whole) {
      for (Index i = range.begin; i < range.end; ++i) all.push_back(i);
    }
    return all;
  };
  Index local = 0;
  const auto columns = indices(1);
  for (const Index row : indices(0)) {
    for (const Index column : columns) {
      for (Index i = 0; i < move.shape[2]; ++i) {
        visit((row * move.shape[1] + column) * move.shape[2] + i, local++);
      }
    }
  }
}

Tensor upload(const std::vector<double>& values, const Shape& shape, DType dtype) {
  const Tensor exact = device().allocate(shape, DType::kFloat64, MemoryTag::kWorkspace);
  device().copy_from_host(exact, values.data(), exact.bytes());
  if (dtype == DType::kFloat64) return exact;
  const Tensor tensor = device().allocate(shape, dtype, MemoryTag::kWorkspace);
  device().copy(tensor, exact);
  return tensor;
}

std::vector<double> download(const Tensor& tensor) {
  const Tensor exact = device().allocate(tensor.shape(), DType::kFloat64, MemoryTag::kWorkspace);
  device().copy(exact, tensor);
  std::vector<double> values(static_cast<std::size_t>(tensor.elements()));
  device().copy_to_host(values.data(), exact, exact.bytes());
  return values;
}

/// The rank's part of a tensor whose elements are `value(global index)`.
template <typename Value>
Tensor part_of(const Move& move, const Layout& layout, int rank, DType dtype, const Value& value) {
  const Shape shape = shape_on(move, layout, rank);
  std::vector<double> values(static_cast<std::size_t>(shape.elements()));
  for_each_held(move, layout, rank, [&](Index global, Index local) {
    values[static_cast<std::size_t>(local)] = value(global);
  });
  return upload(values, shape, dtype);
}

/// A gradient that differs between the holders of one element.
double cotangent(Index global, int rank, std::size_t tensor) {
  const base::RandomStream stream(9, base::Purpose::kTest, static_cast<std::uint32_t>(rank),
                                  tensor);
  return static_cast<double>(stream.bits(static_cast<std::uint64_t>(global)) % 2001) / 1000 - 1;
}

void check_moves(const std::vector<Move>& moves, DType dtype) {
  const int me = world().rank();
  const ReshardPlan plan(me, moves);
  std::vector<Tensor> sources;
  std::vector<Tensor> targets;
  std::vector<Tensor> dsources;
  std::vector<Tensor> dtargets;
  for (std::size_t i = 0; i < moves.size(); ++i) {
    REQUIRE(plan.source_shape(i) == shape_on(moves[i], moves[i].from, me));
    REQUIRE(plan.target_shape(i) == shape_on(moves[i], moves[i].to, me));
    const auto index = [](Index global) { return static_cast<double>(global + 1); };
    sources.push_back(part_of(moves[i], moves[i].from, me, dtype, index));
    targets.push_back(part_of(moves[i], moves[i].to, me, dtype, [](Index) { return -7.0; }));
    dsources.push_back(part_of(moves[i], moves[i].from, me, dtype, [](Index) { return -7.0; }));
    dtargets.push_back(part_of(moves[i], moves[i].to, me, dtype,
                               [&](Index global) { return cotangent(global, me, i); }));
  }
  const std::uint64_t before = world().traffic()[Collective::kAllToAll];
  plan.run(targets, sources, world(), device());
  const ReshardCost cost = plan.cost(dtype);
  CHECK(world().traffic()[Collective::kAllToAll] - before == cost.bytes_sent);
  plan.adjoint(dsources, dtargets, world(), device());

  std::vector<double> products(2);  // <run(x), g> and <x, adjoint(g)>
  for (std::size_t i = 0; i < moves.size(); ++i) {
    const auto found = download(targets[i]);
    for_each_held(moves[i], moves[i].to, me, [&](Index global, Index local) {
      const auto at = static_cast<std::size_t>(local);
      if (found[at] != static_cast<double>(global + 1)) FAIL("tensor " << i << " at " << global);
      products[0] += found[at] * cotangent(global, me, i);
    });
    const auto gradient = download(dsources[i]);
    std::vector<double> expected(static_cast<std::size_t>(moves[i].shape.elements()));
    for (int rank = 0; rank < world().size(); ++rank) {
      for_each_held(moves[i], moves[i].to, rank, [&](Index global, Index /*local*/) {
        expected[static_cast<std::size_t>(global)] += cotangent(global, rank, i);
      });
    }
    for_each_held(moves[i], moves[i].from, me, [&](Index global, Index local) {
      const double value = gradient[static_cast<std::size_t>(local)];
      products[1] += value * static_cast<double>(global + 1);
      if (dtype == DType::kFloat64 && value != expected[static_cast<std::size_t>(global)]) {
        FAIL("gradient of tensor " << i << " at " << global);
      }
    });
  }
  world().all_reduce_sum(products);
  if (dtype == DType::kFloat64) {
    CHECK(products[0] == Approx(products[1]).epsilon(1e-12).margin(1e-12));
  }
}

TEST_CASE("reshard: random covers, exact forward, exact adjoint") {
  Draw draw(11);
  for (int trial = 0; trial < 150; ++trial) {
    INFO("trial " << trial);
    std::vector<Move> moves;
    for (Index i = 0; i <= draw.below(3); ++i) moves.push_back(random_move(draw, world().size()));
    check_moves(moves, DType::kFloat64);
  }
}

TEST_CASE("reshard: float32 and bfloat16 are moved as they are") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const int ranks = world().size();
  const Shape shape{5, 7, 3};  // values up to 105: exact in bfloat16
  check_moves({{shape, {0, Cover::even(5, ranks)}, {1, Cover::even(7, ranks)}}}, dtype);
}

TEST_CASE("reshard: what several ranks hold in bfloat16 is summed in float32") {
  const int ranks = world().size();
  const int me = world().rank();
  const Index tokens = 3 * ranks;
  const Index width = 64;
  const Shape shape{tokens, 1, width};
  const Cover own = Cover::even(tokens, ranks);
  const ReshardPlan plan(me, {{shape, {0, own}, {1, Cover::replicated(1, ranks)}}});
  // Every rank's gradient is a little more than what the first one's rounds away.
  const auto value = [](int rank, Index i) {
    return (rank == 0 ? 256.0 : 0.75) + static_cast<double>(i % 2) * (rank == 0 ? 2.0 : 0.25);
  };
  const Tensor dtarget = device().allocate(shape, DType::kBFloat16, MemoryTag::kGradients);
  std::vector<base::BFloat16> given;
  for (Index i = 0; i < shape.elements(); ++i) {
    given.emplace_back(static_cast<float>(value(me, i)));
  }
  device().copy_from_host(dtarget, given.data(), dtarget.bytes());
  const Tensor dsource =
      device().allocate({own.size(me), 1, width}, DType::kBFloat16, MemoryTag::kGradients);
  plan.adjoint({dsource}, {dtarget}, world(), device());
  const std::vector<double> found = download(dsource);
  for (std::size_t i = 0; i < found.size(); ++i) {
    double exact = 0;
    for (int rank = 0; rank < ranks; ++rank) exact += value(rank, static_cast<Index>(i));
    CHECK(found[i] == static_cast<float>(base::BFloat16(static_cast<float>(exact))));
  }
}

TEST_CASE("reshard: Ulysses, with key-value heads that several ranks need") {
  const int ranks = world().size();
  struct Case {
    Index tokens, heads, kv_heads;
  };
  const Case c = GENERATE(Case{16, 8, 8}, Case{13, 8, 2}, Case{13, 7, 7}, Case{3, 7, 1},
                          Case{1, 4, 2}, Case{2, 2, 1});
  const Cover tokens = Cover::even(c.tokens, ranks);
  const Cover heads = Cover::even(c.heads, ranks);
  const Cover kv_heads = Cover::of_kv_heads(heads, c.kv_heads);
  const Shape q{c.tokens, c.heads, 4};
  const Shape kv{c.tokens, c.kv_heads, 4};
  check_moves({{q, {0, tokens}, {1, heads}},
               {kv, {0, tokens}, {1, kv_heads}},
               {kv, {0, tokens}, {1, kv_heads}}},
              DType::kFloat64);
  check_moves({{q, {1, heads}, {0, tokens}}}, DType::kFloat64);
}

TEST_CASE("reshard: bytes are the formula's where all divides") {
  const int ranks = world().size();
  const auto n = static_cast<std::uint64_t>(ranks);
  const std::uint64_t elements = 12 * 24 * 5;
  const Shape shape{12, 24, 5};
  const ReshardPlan plan(world().rank(),
                         {{shape, {0, Cover::even(12, ranks)}, {1, Cover::even(24, ranks)}}});
  const ReshardCost cost = plan.cost(DType::kFloat32);
  CHECK(cost.bytes_sent == 4 * elements * (n - 1) / (n * n));  // (N-1) M / N^2
  CHECK(cost.messages == ranks - 1);
  CHECK(cost.staging_bytes == 2 * cost.bytes_sent);
  CHECK(cost.bytes_to[static_cast<std::size_t>(world().rank())] == 0);
}

TEST_CASE("reshard: strided tensors at both ends") {
  const int ranks = world().size();
  const Move move{{9, 4, 3}, {0, Cover::zigzag(9, ranks)}, {1, Cover::even(4, ranks)}};
  const ReshardPlan plan(world().rank(), {move});
  const auto value = [](Index global) { return static_cast<double>(global); };
  const Tensor dense = part_of(move, move.from, world().rank(), DType::kFloat64, value);
  // q of a joined [tokens, q + k + v] matrix.
  const Tensor joined =
      device().allocate({dense.size(0), 20}, DType::kFloat64, MemoryTag::kWorkspace);
  const Tensor source = joined.columns(5, 17).reshape(dense.shape());
  device().copy(source.reshape({dense.size(0), 12}), dense.reshape({dense.size(0), 12}));
  const Tensor target =
      device().allocate(plan.target_shape(0), DType::kFloat64, MemoryTag::kWorkspace);
  plan.run({target}, {source}, world(), device());
  const auto found = download(target);
  for_each_held(move, move.to, world().rank(), [&](Index global, Index local) {
    CHECK(found[static_cast<std::size_t>(local)] == static_cast<double>(global));
  });
}

TEST_CASE(
    "reshard: a writer makes blocks of its tensor from the source's rows, others are copied") {
  const int ranks = world().size();
  const int me = world().rank();
  const Cover kv_heads = Cover::of_kv_heads(Cover::even(6, ranks), 2);
  const std::vector<Move> moves{
      {{9, 6, 2}, {0, Cover::zigzag(9, ranks)}, {1, Cover::even(6, ranks)}},
      {{9, 2, 2}, {0, Cover::zigzag(9, ranks)}, {1, kv_heads}},
      {{9, 2, 2}, {0, Cover::zigzag(9, ranks)}, {1, kv_heads}}};
  const auto value = [](Index global) { return static_cast<double>(global); };
  // What the writer adds to the rows that this rank holds: a thousand times their number.
  const Move rows{{9, 12, 1}, moves[0].from, moves[0].from};
  const Tensor added = part_of(rows, rows.from, me, DType::kFloat64, [](Index global) {
    return 1000.0 * static_cast<double>(global / 12);
  });
  const BlockWriter add_to_rows = [&](const Tensor& out, const Tensor& in, Index first_row) {
    const Tensor terms = added.rows(first_row, first_row + in.size(0))
                             .reshape({in.size(0), 12})
                             .columns(0, in.row_elements());
    device().add(out, in, terms.reshape(in.shape()));
  };
  std::vector<Tensor> sources;
  std::vector<Tensor> targets;
  for (const Move& move : moves) {
    sources.push_back(part_of(move, move.from, me, DType::kFloat64, value));
    targets.push_back(part_of(move, move.to, me, DType::kFloat64, [](Index) { return -7.0; }));
  }
  ReshardPlan(me, moves).run(targets, sources, world(), device(), {add_to_rows, add_to_rows});
  for (std::size_t i = 0; i < moves.size(); ++i) {
    const auto found = download(targets[i]);
    const Index row_elements = moves[i].shape[1] * moves[i].shape[2];
    for_each_held(moves[i], moves[i].to, me, [&](Index global, Index local) {
      const Index row = global / row_elements;
      CHECK(found[static_cast<std::size_t>(local)] ==
            static_cast<double>(i < 2 ? global + 1000 * row : global));
    });
  }
}

TEST_CASE("reshard: what cannot be moved is refused by every rank alike") {
  const int ranks = world().size();
  const Shape shape{4, 4, 2};
  const Cover even = Cover::even(4, ranks);
  if (ranks > 1) {
    CHECK_THROWS_AS(ReshardPlan(0, {{shape, {0, Cover::replicated(4, ranks)}, {1, even}}}),
                    base::InternalError);
  }
  CHECK_THROWS_AS(ReshardPlan(0, {{shape, {0, Cover::even(5, ranks)}, {1, even}}}),
                  base::InternalError);
  CHECK_THROWS_AS(ReshardPlan(0, {{shape, {2, even}, {1, even}}}), base::InternalError);
  CHECK_THROWS_AS(ReshardPlan(0, {{shape, {0, even}, {1, Cover::even(4, ranks + 1)}}}),
                  base::InternalError);
  CHECK_THROWS_AS(ReshardPlan(ranks, {{shape, {0, even}, {1, even}}}), base::InternalError);
  CHECK_THROWS_AS(ReshardPlan(0, {}), base::InternalError);
  const ReshardPlan plan(world().rank(), {{shape, {0, even}, {1, even}}});
  CHECK_THROWS_AS(plan.run({}, {}, world(), device()), base::InternalError);
}

}  // namespace
}  // namespace longspan::shard
