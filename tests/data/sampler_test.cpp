#include "longspan/data/sampler.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "longspan/base/error.h"
#include "memory_file.h"

namespace longspan::data {
namespace {

using Rows = std::vector<std::vector<Span>>;

/// Many short documents, some long ones, some of one token or none.
std::vector<std::int64_t> mixed_lengths(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::int64_t> lengths;
  for (std::size_t document = 0; document < count; ++document) {
    const std::int64_t length = random() % 30;
    lengths.push_back(random() % 10 == 0 ? 20 * length : length);
  }
  return lengths;
}

std::vector<std::int64_t> all_documents(const TokenFile& file) {
  std::vector<std::int64_t> documents(static_cast<std::size_t>(file.documents()));
  std::iota(documents.begin(), documents.end(), 0);
  return documents;
}

std::vector<std::int64_t> places(const std::vector<Span>& row) {
  std::vector<std::int64_t> places;
  for (const Span& span : row) {
    for (std::int64_t place = span.begin; place < span.end; ++place) places.push_back(place);
  }
  return places;
}

std::vector<std::vector<std::int64_t>> places(const Rows& rows) {
  std::vector<std::vector<std::int64_t>> result;
  for (const auto& row : rows) result.push_back(places(row));
  return result;
}

SamplerOptions options(Packing packing, std::int64_t row_tokens, std::int64_t rows, bool shuffle) {
  return {.packing = packing,
          .row_tokens = row_tokens,
          .rows_per_step = rows,
          .seed = 11,
          .shuffle = shuffle};
}

TEST_CASE("an epoch visits every token of the chosen documents once, whatever the layout") {
  const MemoryFile file(mixed_lengths(300, 1));
  const auto packing = GENERATE(Packing::kPacked, Packing::kStreamed);
  const bool shuffle = GENERATE(true, false);
  std::vector<std::int64_t> documents;
  for (std::int64_t document = 299; document >= 0; document -= 2) documents.push_back(document);
  std::multiset<std::int64_t> expected;
  for (const std::int64_t document : documents) {
    for (auto place = file.document_begin(document); place < file.document_begin(document + 1);) {
      expected.insert(place++);
    }
  }
  for (const std::int64_t row_tokens : {1, 7, 32, 100, 100000}) {
    for (const std::int64_t rows_per_step : {1, 3, 8}) {
      CAPTURE(row_tokens, rows_per_step);
      Sampler sampler(file, documents, options(packing, row_tokens, rows_per_step, shuffle));
      const std::int64_t steps = 3 * sampler.rows_per_epoch() / rows_per_step + 1;
      Rows sequence;
      for (std::int64_t step = 0; step < steps; ++step) {
        for (const auto& row : sampler.rows(step)) sequence.push_back(row);
      }
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::multiset<std::int64_t> seen;
        bool within = true;
        for (std::int64_t row = 0; row < sampler.rows_per_epoch(); ++row) {
          const auto& spans =
              sequence[static_cast<std::size_t>(epoch * sampler.rows_per_epoch() + row)];
          const auto row_places = places(spans);
          within = within && !row_places.empty() &&
                   static_cast<std::int64_t>(row_places.size()) <= row_tokens;
          seen.insert(row_places.begin(), row_places.end());
        }
        CHECK(within);
        CHECK((seen == expected));
      }
    }
  }
}

TEST_CASE("the rows of a step depend on seed and step alone") {
  const MemoryFile file(mixed_lengths(200, 2));
  const auto packing = GENERATE(Packing::kPacked, Packing::kStreamed);
  SamplerOptions chosen = options(packing, 50, 5, true);
  Sampler sampler(file, all_documents(file), chosen);
  std::vector<std::vector<std::vector<std::int64_t>>> steps;
  for (int step = 0; step < 60; ++step) steps.push_back(places(sampler.rows(step)));
  for (const int step : {59, 0, 31, 7, 58}) {
    CHECK((places(sampler.rows(step)) == steps[static_cast<std::size_t>(step)]));
    Sampler fresh(file, all_documents(file), chosen);
    CHECK((places(fresh.rows(step)) == steps[static_cast<std::size_t>(step)]));
  }
  // The same endless sequence, cut into steps of another size.
  chosen.rows_per_step = 2;
  Sampler other(file, all_documents(file), chosen);
  CHECK((places(other.rows(10)[1]) == steps[4][1]));
  chosen.seed = 12;
  Sampler reseeded(file, all_documents(file), chosen);
  CHECK((places(reseeded.epoch_rows(0)) != places(other.epoch_rows(0))));
  CHECK((places(other.epoch_rows(1)) != places(other.epoch_rows(0))));
}

/// A step of single rows of at most 40 tokens.
SamplerOptions single_options(std::int64_t tokens_per_step, bool shuffle) {
  SamplerOptions result = options(Packing::kSingle, 40, 0, shuffle);
  result.tokens_per_step = tokens_per_step;
  return result;
}

TEST_CASE("single rows: steps follow each other through the epochs, none is empty") {
  const MemoryFile file(mixed_lengths(60, 7));
  const bool shuffle = GENERATE(true, false);
  const std::int64_t tokens = GENERATE(40, 97, 5000);  // the last: more than an epoch
  Sampler sampler(file, all_documents(file), single_options(tokens, shuffle));
  Rows stream;
  std::int64_t begin = 0;  // of the next row in the stream
  for (std::int64_t step = 0; step < 60; ++step) {
    const Rows rows = sampler.rows(step);
    REQUIRE_FALSE(rows.empty());
    for (const auto& row : rows) {
      REQUIRE(row.size() == 1);
      CHECK(begin >= step * tokens);
      CHECK(begin < (step + 1) * tokens);
      CHECK(row[0].end - row[0].begin <= 40);
      begin += row[0].end - row[0].begin;
      stream.push_back(row);
    }
    // Steps are found at once and in any order.
    Sampler other(file, all_documents(file), single_options(tokens, shuffle));
    CHECK(places(other.rows(step)) == places(rows));
  }
  CHECK(begin > 59 * tokens);
  // The stream is one epoch after another.
  Rows epochs;
  for (std::int64_t epoch = 0; epochs.size() < stream.size(); ++epoch) {
    const Rows rows = sampler.epoch_rows(epoch);
    CHECK(static_cast<std::int64_t>(rows.size()) == sampler.rows_per_epoch());
    epochs.insert(epochs.end(), rows.begin(), rows.end());
  }
  epochs.resize(stream.size());
  CHECK(places(epochs) == places(stream));
}

TEST_CASE("single rows: labels end with their document, or go on into what was cut off") {
  const MemoryFile file({50, 3});
  Sampler sampler(file, all_documents(file), single_options(60, false));
  const Rows rows = sampler.rows(0);
  REQUIRE(rows.size() == 4);  // the second epoch's first token is at 53
  CHECK(sampler.read(rows[0]).labels.back() == 1040);
  CHECK(sampler.read(rows[1]).labels.back() == kIgnoredLabel);
  CHECK(sampler.read(rows[1]).positions.front() == 0);
  CHECK(sampler.read(rows[2]).targets == 2);
  CHECK(places(Rows{rows[3]}) == places(Rows{rows[0]}));
  CHECK_THROWS_AS(Sampler(file, all_documents(file), single_options(39, false)),
                  base::InternalError);
}

TEST_CASE("packed rows: shifted labels within documents, positions restart, boundaries") {
  const MemoryFile file({3, 0, 1, 9});  // places 0-2, 3, 4-12
  Sampler sampler(file, all_documents(file), options(Packing::kPacked, 6, 1, false));
  const Rows rows = sampler.epoch_rows(0);
  REQUIRE(rows.size() == 3);
  const MicroBatch first = sampler.read(rows[0]);  // documents 0 and 2
  CHECK(first.tokens == std::vector<TokenId>{1000, 1001, 1002, 1003});
  CHECK(first.labels == std::vector<std::int32_t>{1001, 1002, -100, -100});
  CHECK(first.positions == std::vector<std::int32_t>{0, 1, 2, 0});
  CHECK(first.cu_seqlens == std::vector<std::int32_t>{0, 3, 4});
  CHECK(first.targets == 2);
  const MicroBatch second = sampler.read(rows[1]);  // a span that its document goes on after
  CHECK(second.tokens == std::vector<TokenId>{1004, 1005, 1006, 1007, 1008, 1009});
  CHECK(second.labels == std::vector<std::int32_t>{1005, 1006, 1007, 1008, 1009, 1010});
  CHECK(second.targets == 6);
  const MicroBatch third = sampler.read(rows[2]);
  CHECK(third.labels == std::vector<std::int32_t>{1011, 1012, -100});
  CHECK(third.positions == std::vector<std::int32_t>{0, 1, 2});
}

TEST_CASE("streamed rows: labels cross documents and rows, one sequence a row") {
  const MemoryFile file({3, 2, 0, 4});
  Sampler sampler(file, {3, 0, 2}, options(Packing::kStreamed, 5, 1, false));
  const Rows rows = sampler.epoch_rows(0);  // the stream: places 0-2, 5-8
  REQUIRE(rows.size() == 2);
  const MicroBatch first = sampler.read(rows[0]);
  CHECK(first.tokens == std::vector<TokenId>{1000, 1001, 1002, 1005, 1006});
  CHECK(first.labels == std::vector<std::int32_t>{1001, 1002, 1005, 1006, 1007});
  CHECK(first.positions == std::vector<std::int32_t>{0, 1, 2, 3, 4});
  CHECK(first.cu_seqlens == std::vector<std::int32_t>{0, 5});
  const MicroBatch second = sampler.read(rows[1]);
  CHECK(second.tokens == std::vector<TokenId>{1007, 1008});
  CHECK(second.labels == std::vector<std::int32_t>{1008, -100});
  CHECK(second.targets == 1);
  CHECK(sampler.read({}).tokens.empty());
}

TEST_CASE("every token but the first of a document, or of the stream, is a target once") {
  const MemoryFile file(mixed_lengths(200, 3));
  const auto packing = GENERATE(Packing::kPacked, Packing::kStreamed);
  Sampler sampler(file, all_documents(file), options(packing, 37, 4, true));
  std::multiset<std::int32_t> targets;
  std::int64_t counted = 0;
  for (const auto& row : sampler.epoch_rows(5)) {
    const MicroBatch batch = sampler.read(row);
    counted += batch.targets;
    for (const std::int32_t label : batch.labels) {
      if (label != kIgnoredLabel) targets.insert(label);
    }
  }
  std::multiset<std::int32_t> expected;
  for (std::int64_t document = 0; document < file.documents(); ++document) {
    const std::int64_t begin = file.document_begin(document);
    const bool first = packing == Packing::kPacked || begin == 0;
    for (auto place = begin + first; place < file.document_begin(document + 1); ++place) {
      expected.insert(static_cast<std::int32_t>(place + 1000));
    }
  }
  CHECK((targets == expected));
  CHECK(counted == static_cast<std::int64_t>(expected.size()));
}

TEST_CASE("packing fills rows, and keeps short documents whole") {
  // Log-normal lengths with the quartiles of encyclopedia articles in tokens.
  std::mt19937 random(4);
  std::normal_distribution<double> normal;
  std::vector<std::int64_t> lengths;
  for (int document = 0; document < 20000; ++document) {
    lengths.push_back(1 + static_cast<std::int64_t>(std::exp(5.85 + 1.3 * normal(random))));
  }
  const MemoryFile file(lengths);
  for (const std::int64_t row_tokens : {512, 2048, 8192}) {
    for (const bool shuffle : {true, false}) {
      Sampler sampler(file, all_documents(file), options(Packing::kPacked, row_tokens, 1, shuffle));
      const double fill = static_cast<double>(file.tokens()) /
                          static_cast<double>(sampler.rows_per_epoch() * row_tokens);
      CAPTURE(row_tokens, shuffle);
      CHECK(fill > 0.97);
      std::int64_t pieces = 0;
      for (const auto& row : sampler.epoch_rows(0)) pieces += static_cast<std::int64_t>(row.size());
      std::int64_t expected = 0;
      for (const std::int64_t length : lengths) expected += (length + row_tokens - 1) / row_tokens;
      CHECK(pieces == expected);
    }
  }
}

TEST_CASE("without shuffling documents stay near their place") {
  const MemoryFile file(mixed_lengths(20000, 6));
  Sampler sampler(file, all_documents(file), options(Packing::kPacked, 64, 1, false));
  const Rows rows = sampler.epoch_rows(0);
  REQUIRE(rows.size() > 1000);
  bool ordered = true;
  bool near = true;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::int64_t first = rows[row].front().begin;
    ordered = ordered && (row == 0 || rows[row - 1].front().begin < first);
    ordered =
        ordered && std::is_sorted(rows[row].begin(), rows[row].end(),
                                  [](const Span& a, const Span& b) { return a.begin < b.begin; });
    near = near && (row < 256 || rows[row - 256].back().begin < first);
  }
  CHECK(ordered);
  CHECK(near);
}

TEST_CASE("nothing to train on is an input error, a wrong list an internal one") {
  const MemoryFile file({1, 0, 1, 5});
  const SamplerOptions packed = options(Packing::kPacked, 8, 1, true);
  const SamplerOptions streamed = options(Packing::kStreamed, 8, 1, true);
  CHECK_THROWS_AS(Sampler(file, {}, packed), base::InputError);
  CHECK_THROWS_AS(Sampler(file, {0, 1, 2}, packed), base::InputError);
  CHECK_THROWS_AS(Sampler(file, {1}, streamed), base::InputError);
  CHECK_THROWS_AS(Sampler(file, {2}, streamed), base::InputError);
  CHECK_NOTHROW(Sampler(file, {0, 1, 2}, streamed));
  CHECK_THROWS_AS(Sampler(file, {3, 3}, packed), base::InternalError);
  CHECK_THROWS_AS(Sampler(file, {4}, packed), base::InternalError);
  CHECK_THROWS_AS(Sampler(file, {-1}, packed), base::InternalError);
  CHECK_THROWS_AS(Sampler(file, {3}, options(Packing::kPacked, 0, 1, true)), base::InternalError);
  const Sampler sampler(file, {3}, packed);
  CHECK_THROWS_AS(sampler.read({{3, 1, 4}}), base::InternalError);
  CHECK_THROWS_AS(sampler.read({{9, 2, 3}}), base::InternalError);
}

TEST_CASE("the validation split takes about its fraction, and leaves none empty") {
  const Split split = split_documents(10000, 0.2, 3);
  CHECK(split.validation.size() > 1850);
  CHECK(split.validation.size() < 2150);
  std::vector<std::int64_t> all;
  std::merge(split.training.begin(), split.training.end(), split.validation.begin(),
             split.validation.end(), std::back_inserter(all));
  CHECK(all.size() == 10000);
  CHECK(std::adjacent_find(all.begin(), all.end(), std::greater_equal<>()) == all.end());
  CHECK(split_documents(10000, 0.2, 3).validation == split.validation);
  CHECK(split_documents(10000, 0.2, 4).validation != split.validation);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const double fraction : {1e-9, 0.5, 1.0 - 1e-9}) {
      for (const std::int64_t documents : {2, 3}) {
        const Split small = split_documents(documents, fraction, seed);
        CHECK(!small.training.empty());
        CHECK(!small.validation.empty());
        CHECK(small.training.size() + small.validation.size() ==
              static_cast<std::size_t>(documents));
      }
    }
    CHECK(split_documents(1, 0.9, seed).training.size() == 1);
  }
  CHECK(split_documents(5, 0.0, 1).validation.empty());
  CHECK(split_documents(5, 1.0, 1).training.empty());
  CHECK(split_documents(0, 0.5, 1).training.empty());
  CHECK_THROWS_AS(split_documents(5, 1.1, 1), base::InputError);
  CHECK_THROWS_AS(split_documents(5, std::nan(""), 1), base::InputError);
}

}  // namespace
}  // namespace longspan::data
