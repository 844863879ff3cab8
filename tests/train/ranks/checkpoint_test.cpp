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
#include "longspan/optim/kinds.h"
#include "tests/model/fixture.h"
#include "tests/support/temporary_directory.h"
#include "tests/train/ranks/step_bench.h"
#include "train/heritage.h"
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
    step.forward_backward(test::passes_of(test::padded(batches, ranks->rank())), number);
    step.update(number, 1.0);
  }

  void save(const std::filesystem::path& directory) {
    train::StateReader reader(step.model().parameters(), step.optimizer(), *backend, *ranks);
    train::Progress progress;
    progress.updates = step.optimizer().updates();
    reader.run([&] {
      checkpoint::Store(directory).save(
          1,
          train::checkpoint_contents(step.model().parameters(), reader, progress,
                                     train::checkpoint_extras(step.model(), {})),
          0);
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
    const auto is_in = [name](const std::filesystem::path& run) {
      return std::filesystem::exists(run / "step-00000001" / name);
    };
    if (std::string(name) == "optimizer.safetensors" && !is_in(one) && !is_in(other)) continue;
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
      const auto progress =
          train::load_checkpoint(first / "step-00000001", part.step.parameters(), *part.backend);
      CHECK(progress.updates == 1);
      const auto again = std::filesystem::path(shared.path) / fmt::format("{}-{}", ranks, stage);
      part.save(again);
      if (me == 0) check_same_files(first, again);
    }
    world().barrier();
  }
}

/// A job whose matrices have blocks of moments that even pieces would cut through.
train::Job job_of(const optim::OptimizerKind& kind, bool rounds_moments, int zero_stage) {
  model::ModelConfig config = model::test::small_config(false);
  config.hidden_size = 68;
  config.intermediate_size = 101;
  train::Job job = test::small_job(config, zero_stage);
  job.optimizer.name = kind.name;
  job.optimizer.moments = rounds_moments ? "bf16" : "full";
  job.optimizer.galore_rank = 8;
  job.optimizer.galore_interval = 1;
  job.optimizer.block_active = 0.3;
  job.optimizer.block_interval = 1;
  return job;
}

bool may_share(const optim::OptimizerKind& kind, int ranks, int stage) {
  return !kind.needs_whole_parameters || ranks == 1 || stage == 0;
}

TEST_CASE("so does what every optimizer keeps, and training goes on from it bit for bit") {
  const optim::OptimizerKind kind = GENERATE(from_range(optim::optimizer_kinds()));
  const bool rounds = GENERATE(false, true);
  const int saved_at = GENERATE(0, 3);
  const std::string precision = GENERATE(as<std::string>(), "fp32", "bf16");
  if (rounds && !kind.may_round_moments) return;
  if (!may_share(kind, world().size(), saved_at)) return;
  INFO(kind.name << (rounds ? ", rounded, " : ", ") << precision << ", saved at " << saved_at);
  const SharedDirectory shared;
  const std::filesystem::path top = shared.path;
  train::Job job = job_of(kind, rounds, saved_at);
  job.training.precision = precision;
  Part straight(job, world());
  straight.train_step(0);
  straight.save(top / "first");
  straight.train_step(1);
  straight.save(top / "straight");
  world().barrier();
  for (const int stage : {0, 1, 2, 3}) {
    if (!may_share(kind, world().size(), stage)) continue;
    INFO("loaded at " << stage);
    job.parallel.zero_stage = stage;
    Part part(job, world());
    train::load_checkpoint(top / "first" / "step-00000001", part.step.parameters(), *part.backend);
    const auto again = top / fmt::format("again-{}", stage);
    part.save(again);
    if (world().rank() == 0) check_same_files(top / "first", again);
    world().barrier();
    // Gradients are summed in the same order wherever there are no parts of them, or are.
    if (stage != saved_at) continue;
    part.train_step(1);
    part.save(top / "resumed");
    if (world().rank() == 0) check_same_files(top / "straight", top / "resumed");
    world().barrier();
  }
  // One rank reads what all of them wrote.
  const auto alone = world().group("alone", {world().rank()});
  Part part(job, *alone);
  train::load_checkpoint(top / "first" / "step-00000001", part.step.parameters(), *part.backend);
  const auto again = top / fmt::format("alone-{}", world().rank());
  part.save(again);
  check_same_files(top / "first", again);
}

TEST_CASE("a checkpoint of another optimizer is refused, by the first tensor that is missing") {
  const SharedDirectory shared;
  const std::filesystem::path top = shared.path;
  const optim::OptimizerKind& plain = optim::optimizer_kind("adamw");
  const optim::OptimizerKind& blocks = optim::optimizer_kind("adamw_8bit");
  Part full(job_of(plain, false, 1), world());
  full.save(top);
  world().barrier();
  const auto load = [&](Part& part, const char* from = "") {
    train::load_checkpoint(top / from / "step-00000001", part.step.parameters(), *part.backend);
  };
  Part rounded(job_of(plain, true, 1), world());
  CHECK_THROWS_WITH(load(rounded),
                    Catch::Contains("moment1.model.embed_tokens.weight is float32") &&
                        Catch::Contains("the job has bfloat16"));
  Part quantised(job_of(blocks, false, 1), world());
  CHECK_THROWS_WITH(load(quantised), Catch::Contains("optimizer.safetensors") &&
                                         Catch::Contains("the job has uint8"));
  Part none(job_of(optim::optimizer_kind("mezo"), false, 1), world());
  CHECK_THROWS_WITH(load(none), Catch::Contains("the job's keeps none"));
  Part same(job_of(plain, false, 1), world());
  CHECK_NOTHROW(load(same));
  world().barrier();
  none.save(top / "none");
  world().barrier();
  CHECK_THROWS_WITH(load(same, "none"), Catch::Contains("is not there") &&
                                            Catch::Contains("the job's optimizer keeps a state"));
  CHECK_NOTHROW(load(none, "none"));
}

TEST_CASE("an optimizer that needs whole matrices refuses ranks that share them") {
  const optim::OptimizerKind& kind = optim::optimizer_kind("galore");
  for (const int stage : {1, 2, 3}) {
    if (world().size() == 1) {
      CHECK_NOTHROW(Part(job_of(kind, false, stage), world()));
      continue;
    }
    CHECK_THROWS_WITH(Part(job_of(kind, false, stage), world()),
                      Catch::Contains(fmt::format("parallel.zero_stage is {}", stage)) &&
                          Catch::Contains("\"galore\"") && Catch::Contains("legal: 0"));
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
  train::load_checkpoint(top / "first" / "step-00000001", second.step.parameters(),
                         *second.backend);
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
