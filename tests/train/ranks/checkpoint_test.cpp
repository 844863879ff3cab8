// Checkpoints of ranks that hold parts: the same bytes whatever the layout, and no rank left
// waiting.
#include <fmt/format.h>
#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/store.h"
#include "tests/model/fixture.h"
#include "tests/support/temporary_directory.h"
#include "tests/train/ranks/step_bench.h"
#include "train/training_state.h"

namespace longspan {
namespace {

using test::world;

/// A model and optimizer on some ranks.
struct Part {
  Part(const train::Job& part_job, comm::Communicator& part_ranks, bool offloads = false)
      : job(part_job),
        ranks(&part_ranks),
        step(job, *backend, part_ranks, offloads ? host.get() : nullptr) {}

  void train_step(int number) {
    const auto batches =
        test::batches_of_ranks(job, ranks->size(), 0, static_cast<std::uint64_t>(number));
    step.forward_backward(test::passes_of(test::padded(batches, ranks->rank())));
    step.update(number, 1.0);
  }

  void save(const std::filesystem::path& directory) {
    train::StateReader reader(step.model().parameters(), step.optimizer(), *backend, *ranks);
    train::Progress progress;
    progress.updates = step.optimizer().updates();
    reader.run([&] {
      checkpoint::Store(directory).save(
          1, train::checkpoint_contents(step.model(), reader, progress, {}), 0);
    });
  }

  train::Job job;
  comm::Communicator* ranks;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  std::unique_ptr<backend::Backend> host = model::test::make_backend();
  train::TrainingStep step;
};

/// A directory that all ranks see.
struct SharedDirectory {
  SharedDirectory() : path(own.path().string()) { world().broadcast(path, 0); }
  ~SharedDirectory() { world().barrier(); }
  longspan::test::TemporaryDirectory own;
  std::string path;
};

void check_same_files(const std::filesystem::path& one, const std::filesystem::path& other) {
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "trainer.json",
                           "config.json", "manifest.json"}) {
    INFO(name);
    const bool same = base::read_text(one / "step-00000001" / name) ==
                      base::read_text(other / "step-00000001" / name);
    CHECK(same);
  }
}

TEST_CASE("a checkpoint loads at any ranks and stage, and is saved there as the same bytes") {
  const std::string precision = GENERATE(as<std::string>(), "fp32", "bf16");
  const int saved_at = GENERATE(0, 1, 2, 3);
  const SharedDirectory shared;
  const std::filesystem::path first = std::filesystem::path(shared.path) / "first";
  train::Job job = test::small_job(
      GENERATE(model::test::small_config(false), model::test::small_gpt2()), saved_at);
  job.training.precision = precision;
  {
    Part part(job, world());
    part.train_step(0);
    part.save(first);
  }
  for (int ranks = 1; ranks <= world().size(); ++ranks) {
    const int me = world().rank();
    std::vector<int> members(static_cast<std::size_t>(me < ranks ? ranks : world().size() - ranks));
    std::iota(members.begin(), members.end(), me < ranks ? 0 : ranks);
    const auto group = world().group("loading", members);
    for (int stage = 0; stage <= 3 && me < ranks; ++stage) {
      INFO("saved at stage " << saved_at << ", loaded by " << ranks << " at " << stage);
      job.parallel.zero_stage = stage;
      Part part(job, *group);
      const auto progress = train::load_checkpoint(first / "step-00000001", part.step.model(),
                                                   part.step.optimizer(), *part.backend);
      CHECK(progress.updates == 1);
      const auto again = std::filesystem::path(shared.path) / fmt::format("{}-{}", ranks, stage);
      part.save(again);
      if (me == 0) check_same_files(first, again);
    }
    world().barrier();
  }
}

TEST_CASE("state that the host kept loads where the device keeps it, and back") {
  const std::string precision = GENERATE(as<std::string>(), "fp32", "bf16");
  const bool offloads_first = GENERATE(true, false);
  const SharedDirectory shared;
  const std::filesystem::path top = shared.path;
  train::Job job = test::small_job(false, 3);
  job.training.precision = precision;
  Part straight(job, world());
  Part first(job, world(), offloads_first);
  straight.train_step(0);
  first.train_step(0);
  straight.save(top / "straight");
  first.save(top / "first");
  if (world().rank() == 0) check_same_files(top / "straight", top / "first");
  world().barrier();
  Part second(job, world(), !offloads_first);
  train::load_checkpoint(top / "first" / "step-00000001", second.step.model(),
                         second.step.optimizer(), *second.backend);
  straight.train_step(1);
  second.train_step(1);
  straight.save(top / "straight");
  second.save(top / "second");
  if (world().rank() == 0) check_same_files(top / "straight", top / "second");
}

TEST_CASE("a disk that fills up in the middle of a checkpoint is every rank's error") {
  const SharedDirectory shared;
  Part part(test::small_job(true, 3), world());
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlim_t most = limit.rlim_cur;
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  limit.rlim_cur = 8000;  // the weights alone take more
  if (world().rank() == 0) ::setrlimit(RLIMIT_FSIZE, &limit);
  try {
    part.save(shared.path);
    FAIL("a full disk went unnoticed");
  } catch (const base::Error& error) {
    CHECK(error.agreed());
    CHECK_THAT(error.what(), Catch::Matchers::Contains("model.safetensors"));
  }
  limit.rlim_cur = most;
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  part.save(shared.path);  // and the next one is whole
  CHECK(checkpoint::Store(shared.path).steps() == std::vector<std::int64_t>{1});
  checkpoint::verify(std::filesystem::path(shared.path) / "step-00000001");
}

}  // namespace
}  // namespace longspan
