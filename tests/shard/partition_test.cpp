#include "longspan/shard/partition.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <iterator>

#include "longspan/base/error.h"
#include "longspan/base/random.h"

namespace longspan::shard {
namespace {

/// Random units, the last of any length.
std::vector<Index> random_begins(std::uint64_t seed) {
  const base::RandomStream stream(seed, base::Purpose::kTest, 0, 0);
  std::vector<Index> begins{0};
  const auto units = 1 + stream.bits(0) % 6;
  for (std::uint64_t i = 1; i <= units; ++i) {
    const auto chunks = static_cast<Index>(1 + stream.bits(i) % 20);
    begins.push_back(begins.back() + Partition::kAlignment * chunks);
  }
  begins.back() -= static_cast<Index>(stream.bits(99) % 64);
  return begins;
}

TEST_CASE("partition: every element of a unit is one rank's, in rank order, shared evenly") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto begins = random_begins(seed);
    for (const int ranks : {1, 2, 3, 4, 7, 64}) {
      INFO("seed " << seed << ", " << ranks << " ranks");
      const Partition partition(begins, ranks, 0);
      REQUIRE(partition.units() == static_cast<int>(begins.size()) - 1);
      for (int unit = 0; unit < partition.units(); ++unit) {
        const Range whole = partition.unit(unit);
        const auto offsets = partition.offsets(unit);
        REQUIRE(offsets.size() == static_cast<std::size_t>(ranks) + 1);
        CHECK(offsets.back() == whole.size());
        const Index most = partition.piece(unit, 0).size();
        CHECK(most * ranks >= whole.size());
        CHECK(most <= (whole.size() + ranks - 1) / ranks + Partition::kAlignment);
        Index next = whole.begin;
        for (int rank = 0; rank < ranks; ++rank) {
          const Range piece = partition.piece(unit, rank);
          CHECK(piece.begin == next);
          CHECK(piece.begin - whole.begin == offsets[static_cast<std::size_t>(rank)]);
          const bool is_full = piece.size() == most && most % Partition::kAlignment == 0;
          CHECK((is_full || piece.end == whole.end));
          next = piece.end;
        }
        CHECK(next == whole.end);
      }
    }
  }
}

TEST_CASE("partition: with cuts a piece begins at whole blocks of what it cuts") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const base::RandomStream stream(seed, base::Purpose::kTest, 1, 0);
    // Units of some parameters, of which some begin where the one before ends.
    std::vector<Index> begins{0};
    std::vector<Partition::Cut> cuts;
    Index at = 0;
    for (std::uint64_t i = 0; i < 12; ++i) {
      const bool ends_unit = i % 4 == 3;
      // Anywhere, or in blocks.
      cuts.push_back({at, i % 3 == 2 ? 1 : i % 2 == 0 ? 256 : 192});
      at += static_cast<Index>(1 + stream.bits(i) % 3000);
      const bool joins = !ends_unit && stream.bits(100 + i) % 2 == 0;
      const Index aligned = (at + Partition::kAlignment - 1) / 64 * 64;
      if (!joins && i < 11) at = aligned;
      if (ends_unit) begins.push_back(at);
    }
    for (const int ranks : {1, 2, 3, 4, 7, 64}) {
      INFO("seed " << seed << ", " << ranks << " ranks");
      Index total = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Partition partition(begins, ranks, rank, cuts);
        for (int unit = 0; unit < partition.units(); ++unit) {
          const Range whole = partition.unit(unit);
          const Range piece = partition.own(unit);
          CHECK(piece.begin <= piece.end);
          CHECK(piece.begin == (rank == 0 ? whole.begin : partition.piece(unit, rank - 1).end));
          if (rank == ranks - 1) CHECK(piece.end == whole.end);
          if (piece.begin == whole.end) continue;
          auto cut = cuts.end();
          while ((--cut)->begin > piece.begin) continue;
          CHECK((piece.begin - cut->begin) % cut->each == 0);
          // No more than a block beyond an even share.
          CHECK(piece.size() <= (whole.size() + ranks - 1) / ranks + 2 * 256);
        }
        total += partition.own_elements();
      }
      CHECK(total == begins.back());
    }
  }
}

TEST_CASE("partition: cuts change nothing where even pieces are whole blocks") {
  const std::vector<Index> begins{0, 4096, 8192 + 512};
  for (int rank = 0; rank < 2; ++rank) {
    const Partition plain(begins, 2, rank);
    const Partition cut(begins, 2, rank, {{0, 256}, {1024, 256}, {4096, 256}, {8192, 256}});
    for (int unit = 0; unit < 2; ++unit) CHECK(plain.offsets(unit) == cut.offsets(unit));
  }
}

TEST_CASE("partition: the image of one has its pieces where their elements are") {
  // The first unit's elements 640 to 1280 are a tenth as many there.
  const auto place = [](Index at) {
    return at <= 640 ? at : at <= 1280 ? 640 + (at - 640) / 10 : at - 576;
  };
  const std::vector<Index> begins{0, 1280, 3000};
  for (int rank = 0; rank < 3; ++rank) {
    const Partition whole(begins, 3, rank, {{0, 1}, {640, 320}, {1280, 1}});
    const Partition image = whole.image(place);
    CHECK(image.elements() == 3000 - 576);
    CHECK(image.unit(0) == Range{0, 704});
    Index stored = 0;
    for (int unit = 0; unit < 2; ++unit) {
      const Range piece = whole.own(unit);
      CHECK(image.own(unit) == Range{place(piece.begin), place(piece.end)});
      CHECK(image.stored(unit) == Range{stored, stored + image.own(unit).size()});
      stored = image.stored(unit).end;
    }
    CHECK(image.own_elements() == stored);
  }
  const Partition plain(begins, 3, 0);
  CHECK_THROWS_AS(plain.image([](Index at) { return at / 3; }), base::InternalError);
}

TEST_CASE("partition: a rank stores its pieces one behind another, aligned") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto begins = random_begins(seed);
    for (const int ranks : {1, 2, 3, 5, 100}) {
      Index total = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Partition partition(begins, ranks, rank);
        Index next = 0;
        for (int unit = 0; unit < partition.units(); ++unit) {
          CHECK(partition.own(unit) == partition.piece(unit, rank));
          CHECK(partition.stored(unit) == Range{next, next + partition.own(unit).size()});
          CHECK(next % Partition::kAlignment == 0);
          next = partition.stored(unit).end;
        }
        CHECK(partition.own_elements() == next);
        total += next;
      }
      CHECK(total == begins.back());
    }
  }
}

TEST_CASE("partition: one rank stores the axis as it is, and ranks beyond the chunks nothing") {
  const Partition alone({0, 128, 192, 250}, 1, 0);
  for (int unit = 0; unit < 3; ++unit) CHECK(alone.stored(unit) == alone.unit(unit));
  CHECK(alone.own_elements() == 250);

  // 250 - 192 = 58 elements are one chunk, 128 are two: of four ranks the last two have nothing.
  const Partition many({0, 128, 192, 250}, 4, 3);
  CHECK(many.offsets(0) == comm::Offsets{0, 64, 128, 128, 128});
  CHECK(many.offsets(2) == comm::Offsets{0, 58, 58, 58, 58});
  CHECK(many.own(0) == Range{128, 128});
  CHECK(many.own_elements() == 0);
}

TEST_CASE("partition: bounds that are none are refused") {
  CHECK_THROWS_AS(Partition({}, 1, 0), base::InternalError);
  CHECK_THROWS_AS(Partition({0}, 1, 0), base::InternalError);
  CHECK_THROWS_AS(Partition({64, 128}, 1, 0), base::InternalError);
  CHECK_THROWS_AS(Partition({0, 60, 128}, 1, 0), base::InternalError);
  CHECK_THROWS_AS(Partition({0, 64, 64}, 1, 0), base::InternalError);
  CHECK_THROWS_AS(Partition({0, 64}, 2, 2), base::InternalError);
  CHECK_THROWS_AS(Partition({0, 64}, 2, -1), base::InternalError);
  const auto refuses = [](const std::vector<Partition::Cut>& cuts) {
    CHECK_THROWS_AS(Partition({0, 64}, 2, 0, cuts), base::InternalError);
  };
  refuses({{0, 32}});
  refuses({{0, 0}});
  refuses({{1, 64}});
  refuses({{0, 64}, {9, 64}, {3, 64}});
}

}  // namespace
}  // namespace longspan::shard
