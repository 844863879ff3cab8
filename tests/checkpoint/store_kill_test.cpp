#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <random>

#include "longspan/checkpoint/store.h"
#include "tests/checkpoint/samples.h"
#include "tests/checkpoint/tracer.h"

namespace longspan::checkpoint {
namespace {

using longspan::test::TemporaryDirectory;
using test::check_sample;
using test::Fate;
using test::Outcome;
using test::sample_contents;

constexpr std::int64_t kKeep = 2;

/// What must hold after any kill: every step counts, is whole and unmixed (the salt is the step),
/// none is lost, and `latest` names one of them. Returns the newest, 0 when there is none.
std::int64_t check_survivors(const std::filesystem::path& directory, std::int64_t newest_before) {
  const Store store(directory);
  const std::vector<std::int64_t> steps = store.steps();
  for (const std::int64_t step : steps) {
    check_sample(store.step_directory(step), static_cast<std::uint64_t>(step));
  }
  const std::int64_t newest = steps.empty() ? 0 : steps.back();
  CHECK(newest >= newest_before);
  if (newest_before > 0) {
    CHECK(std::filesystem::exists(test::latest_of(directory) / "manifest.json"));
    std::vector<DamagedStep> damaged;
    CHECK(store.latest_intact(damaged) == newest);
    CHECK(damaged.empty());
  }
  return newest;
}

void wait_for(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(WTERMSIG(status) == SIGKILL);
}

TEST_CASE("store: kill -9 at random moments of a loop of saves loses no committed step") {
  const TemporaryDirectory directory;
  const auto checkpoints = directory.path() / "checkpoints";
  const auto start = std::chrono::steady_clock::now();
  Store(checkpoints).save(1, sample_contents(1), kKeep);
  const std::chrono::microseconds one_save = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  std::mt19937_64 random(20);
  std::int64_t newest = 1;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      Store store(checkpoints);
      for (std::int64_t step = newest + 1;; ++step) {
        store.save(step, sample_contents(static_cast<std::uint64_t>(step)), kKeep);
      }
    }
    ::usleep(random() % static_cast<std::uint64_t>(2 * one_save.count() + 1));
    ::kill(child, SIGKILL);
    wait_for(child);
    INFO("round " << round);
    newest = check_survivors(checkpoints, newest);
  }
  CHECK(newest > 1);
  Store(checkpoints)
      .save(newest + 1, sample_contents(static_cast<std::uint64_t>(newest + 1)), kKeep);
  CHECK(Store(checkpoints).steps().size() <= kKeep);
  CHECK_FALSE(test::has_leftovers(checkpoints));
}

TEST_CASE("store: a writer that dies inside a callback leaves what was there") {
  const TemporaryDirectory directory;
  Store store(directory.path());
  store.save(1, sample_contents(1), kKeep);
  for (const int point : {0, 1, 2, 3}) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      Contents contents = sample_contents(2);
      int calls = 0;
      const auto die_at = [&](int call) {
        if (call == point) ::raise(SIGKILL);
      };
      for (auto* list : {&contents.weights, &contents.optimizer}) {
        for (TensorSource& tensor : *list) {
          tensor.read = [&](std::uint64_t, std::uint64_t, void*) { die_at(calls++); };
        }
      }
      contents.write_more = [&](const std::filesystem::path&) { die_at(3); };
      store.save(2, contents, kKeep);
      ::_exit(0);
    }
    wait_for(child);
    CHECK(check_survivors(directory.path(), 1) == 1);
  }
  store.save(2, sample_contents(2), kKeep);
  CHECK(store.steps() == std::vector<std::int64_t>{1, 2});
  CHECK_FALSE(test::has_leftovers(directory.path()));
}

/// A directory with steps 1 and 2 to start each traced run from.
class Stage {
 public:
  Stage() {
    Store store(origin());
    store.save(1, sample_contents(1), 0);
    store.save(2, sample_contents(2), 0);
  }
  std::filesystem::path reset() const {
    std::filesystem::remove_all(stage());
    std::filesystem::copy(origin(), stage(), std::filesystem::copy_options::recursive);
    return stage();
  }
  std::filesystem::path message() const { return directory_.path() / "message"; }

  /// Saves `step` with `salt` in a child; exit code 10 when that throws a longspan error.
  Outcome save(const Fate& fate, std::int64_t step, std::uint64_t salt) const {
    return test::run_traced(fate, [&] {
      const std::string text =
          test::message_of([&] { Store(stage()).save(step, sample_contents(salt), kKeep); });
      test::write_bytes(message(), text);
      return text.empty() ? 0 : 10;
    });
  }

 private:
  std::filesystem::path origin() const { return directory_.path() / "origin"; }
  std::filesystem::path stage() const { return directory_.path() / "stage"; }

  TemporaryDirectory directory_;
};

bool cannot_trace() {
  if (test::tracing_works()) return false;
  WARN("skipped: child processes cannot be traced here");
  return true;
}

TEST_CASE("store: killed before each single change of the file system, a save loses nothing") {
  if (cannot_trace()) return;
  const Stage stage;
  int kills = 0;
  for (bool killed = true; killed; ++kills) {
    const auto directory = stage.reset();
    killed = stage.save({.kill_at = kills + 1}, 3, 3).killed;
    INFO("killed before change " << kills + 1);
    const std::int64_t newest = check_survivors(directory, 2);
    CHECK((killed || newest == 3));
    CHECK(Store(directory).steps().size() <= kKeep + 1);
    // The next save finds its way whatever was left.
    CHECK(stage.save({}, 4, 4).exit_code == 0);
    CHECK(check_survivors(directory, 4) == 4);
    CHECK_FALSE(test::has_leftovers(directory));
  }
  CHECK(kills > 40);
}

TEST_CASE("store: killed while it replaces a step, a save leaves the old or the new one") {
  if (cannot_trace()) return;
  const Stage stage;
  for (const bool no_exchange : {false, true}) {
    bool killed = true;
    for (int kills = 1; killed; ++kills) {
      const auto directory = stage.reset();
      killed = stage.save({.kill_at = kills, .no_exchange = no_exchange}, 2, 9).killed;
      INFO("exchange " << !no_exchange << ", killed before change " << kills);
      for (const bool recovered : {false, true}) {
        if (recovered) CHECK(stage.save({}, 3, 3).exit_code == 0);
        const Store store(directory);
        const auto steps = store.steps();
        REQUIRE(std::count(steps.begin(), steps.end(), 2) == 1);
        const auto found = store.step_directory(2);
        const bool is_new = test::read_bytes(found / "trainer.json") == "{\"salt\": 9}\n";
        check_sample(found, is_new ? 9 : 2);
        CHECK((killed || is_new));
      }
      CHECK_FALSE(test::has_leftovers(directory));
    }
  }
}

TEST_CASE("store: each single failing system call is reported and leaves whole checkpoints") {
  if (cannot_trace()) return;
  const Stage stage;
  int reported = 0;
  for (const auto& [error, text] :
       {std::pair(EIO, "Input/output error"), std::pair(ENOSPC, "No space left on device")}) {
    int quiet = 0;
    for (int call = 1; quiet < 12; ++call) {  // the calls after the save's last never fail
      const auto directory = stage.reset();
      const Outcome outcome = stage.save({.fail_at = call, .error = error}, 3, 3);
      INFO("change " << call << " fails: " << text);
      check_survivors(directory, 2);
      REQUIRE((outcome.exit_code == 0 || outcome.exit_code == 10));
      quiet = outcome.exit_code == 0 ? quiet + 1 : 0;
      if (outcome.exit_code == 0) continue;
      ++reported;
      const std::string message = test::read_bytes(stage.message());
      CHECK_THAT(message, Catch::Contains(text) && Catch::Contains(directory.string()));
      if (!outcome.failed_removal)
        CHECK_FALSE(std::filesystem::exists(directory / ".tmp-step-00000003"));
    }
  }
  CHECK(reported > 60);
}

}  // namespace
}  // namespace longspan::checkpoint
