#include "longspan/nn/attention.h"

#include <catch2/catch.hpp>
#include <string>

#include "longspan/base/error.h"
#include "longspan/shard/clip_layout.h"
#include "tests/nn/layer_bench.h"
#include "tests/support/relative_distance.h"

// Run by ctest under mpirun with 1 to 4 ranks: attention over tokens that ranks share, against one
// rank that holds them all.
namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using longspan::test::relative_distance;
using shard::SequenceDegrees;
using test::LayerBench;
using Lengths = std::vector<std::int32_t>;
using Values = std::vector<double>;

comm::Communicator& world() {
  static const auto kWorld = comm::make_world_communicator();
  return *kWorld;
}

std::vector<SequenceDegrees> all_degrees() {
  std::vector<SequenceDegrees> all;
  for (int ulysses = 1; ulysses <= world().size(); ++ulysses) {
    if (world().size() % ulysses == 0) all.push_back({ulysses, world().size() / ulysses});
  }
  return all;
}

std::string text_of(const SequenceDegrees& degrees) {
  return std::to_string(degrees.ulysses) + " x " + std::to_string(degrees.ring);
}

/// The rows of a whole that a rank holds.
Tensor part_of(const LayerBench& bench, const Tensor& whole, const shard::TokenLayout& layout,
               int rank) {
  const Tensor part = bench.empty({layout.size(rank), whole.size(1)});
  Index begin = 0;
  for (const shard::Range& range : layout.ranges(rank)) {
    bench.backend().copy(part.rows(begin, begin + range.size()),
                         whole.rows(range.begin, range.end));
    begin += range.size();
  }
  return part;
}

/// One attention layer of a model, forward and back, on one rank or on all.
struct Bench : LayerBench {
  Bench(const AttentionSizes& layer_sizes, const Lengths& document_lengths,
        const AttentionProjections& projections = test::plain_attention(),
        const AttentionKind& kind = {})
      : sizes(layer_sizes), lengths(document_lengths), attention(set, projections, sizes, kind) {
    fill(set);
    for (const std::int32_t length : lengths) tokens += length;
    x = random({tokens, sizes.hidden});
    cotangent = random({tokens, sizes.hidden});
  }

  struct Result {
    Values out;
    Values dx;
    Values gradients;
  };

  Result run(Pass& row_pass, const Tensor& rows, const Tensor& drows, AttentionKeep keep) {
    backend().zero(set.gradients());
    const Tensor out = empty(rows.shape());
    const Tensor dx = empty(rows.shape());
    attention.forward(out, rows, row_pass, nullptr, keep);
    if (keep != AttentionKeep::kAll) attention.again(out, rows, row_pass, keep);
    attention.backward_to_input(dx, attention.backward_to_qkv(drows, rows, row_pass), rows,
                                row_pass);
    CHECK(row_pass.slots() == 0);
    return {values(out), values(dx), values(set.gradients())};
  }

  Result alone() {
    Pass whole = pass(lengths, sizes.head_dim);
    return run(whole, x, cotangent, AttentionKeep::kAll);
  }

  /// What this rank's part of it all is.
  Result expected(const Result& whole, const shard::TokenLayout& layout, int rank) {
    const Tensor out = empty(x.shape());
    const Tensor dx = empty(x.shape());
    assign(out, whole.out);
    assign(dx, whole.dx);
    return {values(part_of(*this, out, layout, rank)), values(part_of(*this, dx, layout, rank)),
            whole.gradients};
  }

  /// All ranks share the row.
  Result shared(const SequenceShard& shard, AttentionKeep keep) {
    Pass part = pass(lengths, sizes.head_dim, shard);
    Result result = run(part, part_of(*this, x, shard.layout, shard.rank()),
                        part_of(*this, cotangent, shard.layout, shard.rank()), keep);
    world().start_all_reduce_sum(set.gradients(), backend())->wait();
    result.gradients = values(set.gradients());
    return result;
  }
  Result shared(const shard::Mesh& mesh, AttentionKeep keep) {
    return shared(SequenceShard(&mesh, shard::TokenLayout(tokens, mesh.degrees())), keep);
  }

  /// This rank's part of it all, as all ranks together find it, against what one found.
  void check_shared(const Result& whole, const shard::Mesh& mesh, AttentionKeep keep,
                    double tolerance, double gradient_tolerance) {
    check_shared(whole, SequenceShard(&mesh, shard::TokenLayout(tokens, mesh.degrees())), keep,
                 tolerance, gradient_tolerance);
  }
  void check_shared(const Result& whole, const SequenceShard& shard, AttentionKeep keep,
                    double tolerance, double gradient_tolerance) {
    const auto want = expected(whole, shard.layout, shard.rank());
    const auto found = shared(shard, keep);
    CHECK(relative_distance(found.out, want.out) < tolerance);
    CHECK(relative_distance(found.dx, want.dx) < gradient_tolerance);
    CHECK(relative_distance(found.gradients, want.gradients) < gradient_tolerance);
  }

  AttentionSizes sizes;
  Lengths lengths;
  ParameterSet set;
  Attention attention;
  Index tokens = 0;
  Tensor x;
  Tensor cotangent;
};

const AttentionSizes kManySizes[] = {
    {.hidden = 6, .heads = 8, .kv_heads = 2, .head_dim = 4},  // fewer key-value heads than ranks
    {.hidden = 6, .heads = 7, .kv_heads = 7, .head_dim = 2},  // heads that do not divide
    {.hidden = 6, .heads = 7, .kv_heads = 1, .head_dim = 2},
    {.hidden = 6, .heads = 6, .kv_heads = 3, .head_dim = 2},  // a rank's heads begin within a group
    {.hidden = 6, .heads = 9, .kv_heads = 3, .head_dim = 2},
    {.hidden = 6, .heads = 2, .kv_heads = 1, .head_dim = 2},  // fewer heads than ranks
    {.hidden = 6, .heads = 1, .kv_heads = 1, .head_dim = 2},  // a ring whose ranks have none
};

TEST_CASE("shared attention: output and every gradient equal one rank's") {
  const Lengths lengths = GENERATE(Lengths{1}, Lengths{2}, Lengths{3}, Lengths{5}, Lengths{17},
                                   Lengths{3, 0, 4, 1, 9}, Lengths{1, 1, 1, 1, 1, 12});
  const AttentionProjections projections =
      GENERATE(as<AttentionProjections>(), test::plain_attention(), test::joined_attention());
  for (const AttentionSizes& sizes : kManySizes) {
    Bench bench(sizes, lengths, projections);
    const Bench::Result whole = bench.alone();
    for (const SequenceDegrees degrees : all_degrees()) {
      const shard::Mesh mesh(world(), degrees);
      INFO(text_of(degrees) << ", " << bench.tokens << " tokens, " << sizes.heads << " heads, "
                            << sizes.kv_heads << " of keys");
      for (const AttentionKeep keep :
           {AttentionKeep::kAll, AttentionKeep::kOutput, AttentionKeep::kNothing}) {
        bench.check_shared(whole, mesh, keep, 1e-12, 1e-12);
      }
    }
  }
}

TEST_CASE("shared attention: windows, soft caps and norms of heads and output") {
  const Lengths lengths = GENERATE(Lengths{2}, Lengths{37}, Lengths{3, 0, 14, 1, 29});
  const Index window = GENERATE(0, 1, 2, 5, 12, 100);
  for (const AttentionSizes& sizes : kManySizes) {
    Bench bench(sizes, lengths, test::normed_attention(),
                {.scale = 0.7, .soft_cap = 1.5, .window = window});
    const Bench::Result whole = bench.alone();
    for (const SequenceDegrees degrees : all_degrees()) {
      const shard::Mesh mesh(world(), degrees);
      INFO(text_of(degrees) << ", " << bench.tokens << " tokens, " << sizes.heads << " heads, "
                            << sizes.kv_heads << " of keys, window " << window);
      for (const AttentionKeep keep :
           {AttentionKeep::kAll, AttentionKeep::kOutput, AttentionKeep::kNothing}) {
        bench.check_shared(whole, mesh, keep, 1e-11, 1e-11);
      }
    }
  }
}

TEST_CASE("shared attention: any cover of the row, causal or not") {
  // Frames of packed clips: a rank holds some places of each, or the next of all tokens.
  const std::vector<shard::ClipGrid> clips =
      GENERATE(std::vector<shard::ClipGrid>{{5, 7}, {2, 3}, {16, 1}, {1, 16}},
               std::vector<shard::ClipGrid>{{4, 1}, {3, 2}});
  Lengths frames;
  for (const shard::ClipGrid& clip : clips) {
    frames.insert(frames.end(), static_cast<std::size_t>(clip.frames),
                  static_cast<std::int32_t>(clip.places));
  }
  const AttentionKind kind{.causal = GENERATE(true, false)};
  for (const AttentionSizes& sizes : kManySizes) {
    Bench bench(sizes, frames, test::plain_attention(), kind);
    const Bench::Result whole = bench.alone();
    for (const auto sharding : {shard::ClipSharding::kOneAxis, shard::ClipSharding::kFlattened}) {
      const shard::ClipLayout layout(clips, world().size(), sharding);
      const shard::Cover row = layout.row(shard::ClipOrder::kByFrame);
      for (const AttentionKeep keep : {AttentionKeep::kAll, AttentionKeep::kOutput}) {
        bench.check_shared(whole, {world(), shard::TokenLayout::of_ulysses(row)}, keep, 1e-12,
                           1e-12);
        bench.check_shared(whole, {world(), shard::TokenLayout::of_ring(row)}, keep, 1e-12, 1e-12);
      }
    }
  }
}

TEST_CASE("shared attention: a group that is not of the layout is refused") {
  const shard::TokenLayout layout(16, {1, world().size() + 1});
  CHECK_THROWS_AS(SequenceShard(world(), layout), base::InternalError);
}

TEST_CASE("shared attention: long documents, over several tiles of the kernel") {
  Bench bench({.hidden = 8, .heads = 4, .kv_heads = 2, .head_dim = 8}, {700, 41, 530});
  const Bench::Result whole = bench.alone();
  for (const SequenceDegrees degrees : all_degrees()) {
    const shard::Mesh mesh(world(), degrees);
    INFO(text_of(degrees));
    bench.check_shared(whole, mesh, AttentionKeep::kAll, 1e-12, 1e-12);
  }
}

TEST_CASE(
    "shared attention: bytes sent are the formulas', and recomputation keeps to its exchange") {
  const Index kv_heads = GENERATE(12, 2);
  const AttentionSizes sizes{.hidden = 6, .heads = 24, .kv_heads = kv_heads, .head_dim = 2};
  Bench bench(sizes, {24, 24});
  const auto sent = [&](comm::Collective kind) {
    std::vector<double> bytes{static_cast<double>(world().traffic()[kind])};
    world().all_reduce_sum(bytes);
    return static_cast<std::int64_t>(bytes[0]);
  };
  for (const SequenceDegrees degrees : all_degrees()) {
    const Index u = degrees.ulysses;
    const Index r = degrees.ring;
    if (kv_heads % u != 0 && u % kv_heads != 0) continue;  // there the formulas are bounds only
    const shard::Mesh mesh(world(), degrees);
    INFO(text_of(degrees) << ", " << kv_heads << " key-value heads");
    const auto measure = [&](comm::Collective kind, AttentionKeep keep) {
      const std::int64_t before = sent(kind);
      bench.shared(mesh, keep);
      return sent(kind) - before;
    };
    // Of all ranks, in bytes of float64: an exchange moves (u - 1) / u of its tensor; q, k, v and
    // the output go there and back. Where ranks outnumber them, key-value heads count once a rank.
    const Index token = 8 * bench.tokens * sizes.head_dim;
    const Index q = token * sizes.heads;
    const Index kv = token * std::max(kv_heads, u);
    const Index forward = (u - 1) * (q + 2 * kv + q) / u;
    CHECK(measure(comm::Collective::kAllToAll, AttentionKeep::kAll) == 2 * forward);
    CHECK(measure(comm::Collective::kAllToAll, AttentionKeep::kOutput) == 3 * forward);
    CHECK(measure(comm::Collective::kAllToAll, AttentionKeep::kNothing) == 3 * forward);
    // Keys and values make r - 1 hops forward and again backward, their gradients r.
    const Index hops = r == 1 ? 0 : 2 * (r - 1) + r;
    CHECK(measure(comm::Collective::kSendReceive, AttentionKeep::kAll) == hops * 2 * kv);
  }
}

TEST_CASE("shared attention: Ulysses' exchanges and attention are bitwise one rank's") {
  // Heads are attended one by one, so only the projections may depend on how many rows there are:
  // with one output each, and inputs that are small whole numbers, their sums are exact.
  const AttentionSizes sizes{.hidden = 4, .heads = 7, .kv_heads = 7, .head_dim = 2};
  Bench bench(sizes, {9, 30, 2});
  for (Index i = 0; i < bench.set.elements(); ++i) {
    bench.set.weights().data<double>()[i] = static_cast<double>(i % 5 - 2) / 4;
  }
  for (Index i = 0; i < bench.x.elements(); ++i) {
    bench.x.data<double>()[i] = static_cast<double>((i * 7) % 11 - 5) / 8;
  }
  const Bench::Result whole = bench.alone();
  const shard::Mesh mesh(world(), {world().size(), 1});
  const shard::TokenLayout layout(bench.tokens, mesh.degrees());
  const auto expected = bench.expected(whole, layout, mesh.sequence().rank());
  CHECK(bench.shared(mesh, AttentionKeep::kAll).out == expected.out);
}

TEST_CASE("shared attention: huge scores neither overflow nor lose a block") {
  for (const SequenceDegrees degrees : all_degrees()) {
    Bench bench({.hidden = 4, .heads = 4, .kv_heads = 2, .head_dim = 2}, {13, 8});
    for (Index i = 0; i < bench.x.elements(); ++i) bench.x.data<double>()[i] *= 100;  // ~1e4
    const Bench::Result whole = bench.alone();
    const shard::Mesh mesh(world(), degrees);
    INFO(text_of(degrees));
    bench.check_shared(whole, mesh, AttentionKeep::kAll, 1e-11, 1e-9);
  }
}

}  // namespace
}  // namespace longspan::nn
