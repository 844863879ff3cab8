#include "longspan/data/blend.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>

#include "longspan/base/error.h"
#include "memory_file.h"

namespace longspan::data {
namespace {

TEST_CASE("rows of a blend are in proportion to the weights, at every moment") {
  for (const std::vector<double>& weights : {std::vector<double>{1},
                                             {1, 1},
                                             {3, 1},
                                             {0.7, 0.2, 0.1},
                                             {1e-3, 5, 5},
                                             {1e300, 1e300, 1e299},
                                             {1, 2, 3, 4, 5, 6, 7}}) {
    const BlendOrder order(weights);
    CHECK(std::accumulate(order.shares().begin(), order.shares().end(), std::int64_t{0}) ==
          BlendOrder::kPeriod);
    double sum = 0;
    for (const double weight : weights) sum += weight / weights[0];
    for (std::size_t source = 0; source < weights.size(); ++source) {
      const double exact = weights[source] / weights[0] / sum * BlendOrder::kPeriod;
      CHECK(std::abs(static_cast<double>(order.shares()[source]) - exact) <= 1.0);
    }
    std::vector<std::int64_t> used(weights.size());
    bool counted = true;
    bool close = true;
    for (std::int64_t row = 0; row < 2 * BlendOrder::kPeriod + 100; ++row) {
      for (std::size_t source = 0; source < weights.size(); ++source) {
        const double due = static_cast<double>(order.shares()[source]) * static_cast<double>(row) /
                           static_cast<double>(BlendOrder::kPeriod);
        counted = counted && order.rows_before(source, row) == used[source];
        close = close && std::abs(static_cast<double>(used[source]) - due) <
                             static_cast<double>(weights.size());
      }
      ++used[order.source(row)];
    }
    CHECK(counted);
    CHECK(close);
  }
}

TEST_CASE("the order of a blend is the one furthest behind, the first of equals") {
  const BlendOrder order({2, 1, 1});
  std::vector<std::size_t> found;
  for (std::int64_t row = 0; row < 8; ++row) found.push_back(order.source(row));
  CHECK(found == std::vector<std::size_t>{0, 1, 2, 0, 0, 1, 2, 0});
}

TEST_CASE("a weight that gets no row is refused") {
  CHECK_THROWS_AS(BlendOrder({1, 1e-6}), base::InputError);
  CHECK_THROWS_WITH(BlendOrder({1, 1e-6}), Catch::Contains("weight 2 (1e-06) is too small"));
}

/// Documents 0-9 of source 0 with 10 tokens each, 10-12 of source 1 with 7, 13 of source 2 with 16.
struct Fixture {
  std::vector<std::int64_t> lengths() const {
    std::vector<std::int64_t> lengths(10, 10);
    lengths.insert(lengths.end(), {7, 7, 7, 16});
    return lengths;
  }
  MemoryFile file{lengths()};
  std::vector<std::vector<std::int64_t>> documents = {
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {10, 11, 12}, {13}};

  Blend blend(std::int64_t rows_per_step, Packing packing = Packing::kPacked) const {
    return {file,
            documents,
            {4, 3, 1},
            {.packing = packing,
             .row_tokens = 8,
             .rows_per_step = rows_per_step,
             .seed = 5,
             .shuffle = true}};
  }
};

TEST_CASE("each source of a blend goes through its documents once in an epoch of its own") {
  const Fixture fixture;
  const auto packing = GENERATE(Packing::kPacked, Packing::kStreamed);
  Blend blend = fixture.blend(8, packing);
  REQUIRE(blend.sources() == 3);
  CHECK(blend.share(0) == 0.5);
  std::map<std::size_t, std::vector<std::vector<Span>>> drawn;
  for (std::int64_t step = 0; step < 60; ++step) {
    for (const auto& row : blend.rows(step)) {
      const std::int64_t document = row.front().document;
      const std::size_t source = document < 10 ? 0 : document < 13 ? 1 : 2;
      for (const Span& span : row) {
        CHECK((span.document < 10 ? 0U : span.document < 13 ? 1U : 2U) == source);
      }
      drawn[source].push_back(row);
    }
  }
  CHECK(drawn[0].size() == 240);
  CHECK(drawn[1].size() == 180);
  CHECK(drawn[2].size() == 60);
  for (std::size_t source = 0; source < 3; ++source) {
    Sampler alone(
        fixture.file, fixture.documents[source],
        {.packing = packing, .row_tokens = 8, .rows_per_step = 1, .seed = 5, .shuffle = true});
    const auto epoch = static_cast<std::size_t>(alone.rows_per_epoch());
    CHECK(blend.epochs(source, 60) ==
          Approx(static_cast<double>(drawn[source].size()) / static_cast<double>(epoch)));
    for (std::size_t begin = 0; begin + epoch <= drawn[source].size(); begin += epoch) {
      std::map<std::int64_t, int> seen;
      for (std::size_t row = begin; row < begin + epoch; ++row) {
        for (const Span& span : drawn[source][row]) {
          for (std::int64_t place = span.begin; place < span.end; ++place) ++seen[place];
        }
      }
      std::int64_t tokens = 0;
      for (const std::int64_t document : fixture.documents[source]) {
        tokens += fixture.file.document_begin(document + 1) - fixture.file.document_begin(document);
      }
      CHECK(static_cast<std::int64_t>(seen.size()) == tokens);
      CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& s) { return s.second == 1; }));
    }
  }
}

std::vector<std::int64_t> begins(const std::vector<std::vector<Span>>& rows) {
  std::vector<std::int64_t> result;
  for (const auto& row : rows) {
    for (const Span& span : row) result.push_back(span.begin);
  }
  return result;
}

TEST_CASE("the rows of a blend's step depend on the step alone") {
  const Fixture fixture;
  Blend blend = fixture.blend(8);
  std::vector<std::vector<std::int64_t>> steps;
  for (std::int64_t step = 0; step < 30; ++step) steps.push_back(begins(blend.rows(step)));
  for (const std::int64_t step : {29, 3, 17, 0}) {
    Blend fresh = fixture.blend(8);
    CHECK(begins(fresh.rows(step)) == steps[static_cast<std::size_t>(step)]);
    CHECK(begins(blend.rows(step)) == steps[static_cast<std::size_t>(step)]);
  }
  // The same rows in steps of another size, also beyond the first period.
  Blend single = fixture.blend(1);
  CHECK(begins(single.rows(8 * 29 + 5)) == begins({blend.rows(29)[5]}));
  CHECK(begins(single.rows(8 * 20000 + 3)) == begins({blend.rows(20000)[3]}));
}

TEST_CASE("rows of a blend are read with their own source's labels") {
  const Fixture fixture;
  Blend blend = fixture.blend(4, Packing::kStreamed);
  CHECK(blend.read({}).tokens.empty());
  for (std::int64_t step = 0; step < 20; ++step) {
    for (const auto& row : blend.rows(step)) {
      const MicroBatch batch = blend.read(row);
      // The stream of a source ends with its last document, and does not go on to the next
      // source's.
      const std::int64_t end = row.back().end;
      const bool ends = end == 100 || end == 121 || end == 137;
      CHECK(batch.labels.back() == (ends ? kIgnoredLabel : static_cast<std::int32_t>(end + 1000)));
    }
  }
}

TEST_CASE("one source without weights is a sampler") {
  const Fixture fixture;
  const SamplerOptions options = {
      .packing = Packing::kPacked, .row_tokens = 8, .rows_per_step = 5, .seed = 5, .shuffle = true};
  std::vector<std::int64_t> all(14);
  std::iota(all.begin(), all.end(), 0);
  Blend blend(fixture.file, {all}, {}, options);
  Sampler sampler(fixture.file, all, options);
  for (std::int64_t step = 0; step < 20; ++step) {
    CHECK(begins(blend.rows(step)) == begins(sampler.rows(step)));
  }
  CHECK_THROWS_AS(Blend(fixture.file, {{0}, {}}, {1, 1}, options), base::InputError);
  CHECK_THROWS_AS(Blend(fixture.file, {{0}, {1}}, {1}, options), base::InternalError);
}

}  // namespace
}  // namespace longspan::data
