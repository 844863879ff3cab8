// Sums of gradients beside the backward against sums taken at once, at as many ranks as the test is
// run with.
#include <catch2/catch.hpp>
#include <functional>
#include <utility>

#include "tests/model/fixture.h"
#include "tests/train/ranks/counting_communicator.h"
#include "tests/train/ranks/step_bench.h"

namespace longspan {
namespace {

using backend::Index;
using backend::Tensor;
using test::world;

/// Sums when it is waited for: the latest that a device may. Who touches a tensor before, or
/// forgets to wait, has other sums.
class LateSums : public test::CountingCommunicator {
 public:
  using CountingCommunicator::CountingCommunicator;

  std::unique_ptr<comm::Pending> start_all_reduce_sum(const Tensor& tensor,
                                                      backend::Backend& backend) override {
    return std::make_unique<Late>([=, this, &backend] {
      CountingCommunicator::start_all_reduce_sum(tensor, backend)->wait();
    });
  }
  std::unique_ptr<comm::Pending> start_reduce_scatter_sum(const Tensor& part, const Tensor& whole,
                                                          const comm::Offsets& offsets,
                                                          backend::Backend& backend) override {
    return std::make_unique<Late>([=, this, &backend] {
      CountingCommunicator::start_reduce_scatter_sum(part, whole, offsets, backend)->wait();
    });
  }

 private:
  class Late : public comm::Pending {
   public:
    explicit Late(std::function<void()> sum) : sum_(std::move(sum)) {}
    void wait() override { sum_(); }

   private:
    std::function<void()> sum_;
  };
};

/// A model on this rank of the world.
struct Summed {
  Summed(const train::Job& job, comm::Communicator& ranks, bool overlap)
      : model(job.model, base::DType::kFloat32, *backend, {},
              {.zero_stage = static_cast<int>(job.parallel.zero_stage),
               .ranks = &ranks,
               .overlap = overlap}) {
    model.parameters().initialise(1, 0.3);
  }

  /// This rank's own gradients after a step of these rows.
  std::vector<double> gradients(const test::Batches& rows) {
    model.parameters().start_gradients();
    for (const auto& row : rows) {
      if (&row == &rows.back()) model.parameters().start_last_pass();
      model.forward_backward({row->tokens, row->labels, row->positions, row->cu_seqlens}, 0.1);
    }
    model.parameters().reduce_gradients();
    std::vector<double> all;
    for (const nn::OwnRange& range : model.parameters().own_ranges()) {
      const auto part = model::test::values(*backend, model.parameters().own_gradient(range));
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  model::Decoder model;
};

TEST_CASE("sums beside the backward are those taken at once, bit for bit") {
  const int stage = GENERATE(0, 1, 2, 3);
  const bool tied = GENERATE(true, false);
  INFO("stage " << stage << (tied ? ", tied" : ", untied"));
  const train::Job job = test::small_job(tied, stage);
  LateSums late(world());
  Summed beside(job, late, true);
  Summed at_once(job, world(), false);
  for (std::uint64_t step = 0; step < 3; ++step) {
    const auto rows =
        test::padded(test::batches_of_ranks(job, world().size(), 0, step), world().rank());
    CHECK(beside.gradients(rows) == at_once.gradients(rows));
  }
}

TEST_CASE("below stage 2 a unit is summed once a step, in the last backward") {
  if (world().size() == 1) return;
  const train::Job job = test::small_job(GENERATE(true, false), GENERATE(0, 1));
  test::CountingCommunicator counted(world());
  Summed beside(job, counted, true);
  const auto rows = test::padded(test::batches_of_ranks(job, world().size(), 0, 0), world().rank());
  REQUIRE(rows.size() == 3);
  beside.gradients(rows);
  const auto layers = static_cast<std::size_t>(job.model.num_hidden_layers);
  REQUIRE(counted.reductions().size() == layers + 2);
  CHECK(counted.reductions().front().place == "loss, reduction");
  CHECK(counted.reductions()[1].place == "backward, block 2, reduction");
  CHECK(counted.reductions().back().place == "backward, embedding, reduction");
}

TEST_CASE("from stage 2 on, gradients of at most two units are there at a time") {
  if (world().size() == 1) return;
  const train::Job job = test::small_job(false, GENERATE(2, 3));
  Summed beside(job, world(), true);
  Summed at_once(job, world(), false);
  const auto rows = test::padded(test::batches_of_ranks(job, world().size(), 0, 0), world().rank());
  const auto most = [&](Summed& summed) {
    summed.backend->reset_peaks();
    const std::size_t before = summed.backend->ledger().live(backend::MemoryTag::kGradients);
    summed.gradients(rows);
    CHECK(summed.backend->ledger().live(backend::MemoryTag::kGradients) == before);
    return summed.backend->ledger().peak(backend::MemoryTag::kGradients) - before;
  };
  const shard::Partition& partition = beside.model.parameters().partition();
  const auto unit = [&](int number) {
    const auto bytes = 4 * static_cast<std::size_t>(partition.unit(number).size());
    return (bytes + 63) / 64 * 64;
  };
  const int head = partition.units() - 1;
  CHECK(most(at_once) == std::max({unit(0), unit(1), unit(head)}));
  CHECK(most(beside) == unit(1) + std::max({unit(0), unit(1), unit(head)}));
}

}  // namespace
}  // namespace longspan
