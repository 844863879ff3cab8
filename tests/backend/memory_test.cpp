#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/base/error.h"
#include "longspan/base/random.h"

using namespace longspan;
using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using base::DType;

TEST_CASE("the ledger follows allocations by tag", "[memory]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 20U);
  {
    const auto a = backend->allocate({100}, DType::kFloat32, MemoryTag::kWeights);
    const auto b = backend->allocate({16}, DType::kFloat32, MemoryTag::kSaved);
    CHECK(backend->ledger().live(MemoryTag::kWeights) == 448);  // 400 rounded up to 64
    CHECK(backend->ledger().live(MemoryTag::kSaved) == 64);
    CHECK(backend->ledger().live_total() == 512);
    const Tensor view = a.rows(3, 5);
    CHECK(backend->ledger().live_total() == 512);
  }
  CHECK(backend->ledger().live_total() == 0);
  CHECK(backend->ledger().peak_total() == 512);
  const auto kept = backend->allocate({16}, DType::kFloat32, MemoryTag::kSaved);
  backend->reset_peaks();
  CHECK(backend->ledger().peak_total() == 64);
  CHECK(backend->ledger().peak(MemoryTag::kWeights) == 0);
  CHECK(backend->ledger().peak(MemoryTag::kSaved) == 64);
}

TEST_CASE("a view keeps its buffer", "[memory]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 20U);
  Tensor view;
  {
    const auto whole = backend->allocate({8, 8}, DType::kFloat32, MemoryTag::kSaved);
    backend->fill(whole, 5.0);
    view = whole.rows(7, 8);
  }
  CHECK(backend->ledger().live_total() == 256);
  CHECK(view.data<float>()[7] == 5.0F);
  view = Tensor();
  CHECK(backend->ledger().live_total() == 0);
}

TEST_CASE("what does not fit is refused with the ledger", "[memory]") {
  const auto backend = backend::make_cpu_backend(4096);
  const auto kept = backend->allocate({512}, DType::kFloat32, MemoryTag::kOptimizer);
  try {
    backend->allocate({1024}, DType::kFloat32, MemoryTag::kSaved);
    FAIL("4 KiB more fitted into 2 KiB");
  } catch (const base::OutOfMemoryError& error) {
    CHECK(error.code() == base::ExitCode::kOutOfMemory);
    CHECK_THAT(error.what(), Catch::Contains("saved") && Catch::Contains("optimizer") &&
                                 Catch::Contains("memory.limit"));
  }
  CHECK(backend->ledger().live_total() == 2048);
}

TEST_CASE("random allocation never overlaps and always comes back", "[memory]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 20U);
  const base::RandomStream random(5, base::Purpose::kTest, 0, 0);
  std::vector<Tensor> live;
  std::uint64_t draw = 0;
  for (int round = 0; round < 3000; ++round) {
    if (live.size() > 20 || (!live.empty() && random.bits(draw++) % 2 == 0)) {
      const auto victim = static_cast<std::ptrdiff_t>(random.bits(draw++) % live.size());
      const Tensor tensor = live[static_cast<std::size_t>(victim)];
      const auto* bytes = static_cast<const unsigned char*>(tensor.raw());
      for (std::size_t i = 1; i < tensor.bytes(); ++i) REQUIRE(bytes[i] == bytes[0]);
      live.erase(live.begin() + victim);
    } else {
      const auto size = static_cast<Index>(random.bits(draw++) % 20000);
      live.push_back(backend->allocate({size}, DType::kUInt8, MemoryTag::kWorkspace));
      std::memset(live.back().raw(), round & 0xff, live.back().bytes());
    }
  }
  live.clear();
  CHECK(backend->ledger().live_total() == 0);
  // One piece again: the whole limit can be had at once.
  CHECK_NOTHROW(backend->allocate({Index{1} << 20}, DType::kUInt8, MemoryTag::kSaved));
}

TEST_CASE("tensor views", "[tensor]") {
  std::vector<float> data(24);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  const Tensor whole(nullptr, data.data(), DType::kFloat32, {4, 6});
  CHECK(whole.is_dense());
  CHECK(whole.rows(1, 3).data<float>()[0] == 6.0F);
  const Tensor columns = whole.columns(2, 6);
  CHECK_FALSE(columns.is_dense());
  CHECK(columns.row_stride() == 6);
  CHECK(columns.bytes() == 64);
  const Tensor split = columns.reshape({4, 2, 2});
  CHECK(split.row_stride() == 6);
  CHECK(split.rows(2, 3).data<float>()[0] == 14.0F);
  CHECK(whole.reshape({24}).size(0) == 24);
  CHECK_THROWS_AS(columns.reshape({16}), base::InternalError);
  CHECK_THROWS_AS(whole.reshape({5, 5}), base::InternalError);
  CHECK_THROWS_AS(whole.rows(3, 5), base::InternalError);
  CHECK_THROWS_AS(whole.columns(-1, 2), base::InternalError);
  CHECK_THROWS_AS(whole.data<double>(), base::InternalError);
  CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5}), base::InternalError);
  CHECK(Shape{2, 0, 3}.elements() == 0);
  CHECK(Shape{}.elements() == 1);
  CHECK_FALSE(Tensor().defined());
}
