#include "train/starting_point.h"

#include <fmt/format.h>

#include <vector>

#include "longspan/base/error.h"
#include "longspan/checkpoint/store.h"

namespace longspan::train {
namespace {

using base::InputError;

std::filesystem::path newest_intact(const checkpoint::Store& store, Report& report) {
  std::vector<checkpoint::DamagedStep> damaged;
  const auto step = store.latest_intact(damaged);
  for (const auto& one : damaged) {
    report.warning(fmt::format("the checkpoint of step {} is damaged and passed over: {}", one.step,
                               one.reason));
  }
  return step ? store.step_directory(*step) : std::filesystem::path();
}

/// Of a run that has checkpoints. One of them can be named only when it is the newest: the steps
/// behind it would else be taken at the next start.
void refuse_going_back(const std::filesystem::path& path, const checkpoint::Store& store) {
  std::error_code error;
  const std::vector<std::int64_t> steps = store.steps();
  for (const std::int64_t step : steps) {
    if (step == steps.back()) return;
    if (!std::filesystem::equivalent(path, store.step_directory(step), error)) continue;
    throw InputError(fmt::format(
        "checkpoint.resume names step {} of this run, which has later ones up to step {}; to go "
        "back, move those away and set checkpoint.resume to \"auto\", or name another "
        "run.output_dir",
        step, steps.back()));
  }
}

}  // namespace

std::filesystem::path starting_point(const Job& job, const std::filesystem::path& directory,
                                     Report& report) {
  const checkpoint::Store store(directory);
  const std::string& wish = job.checkpoint.resume;
  if (wish == "never") {
    if (store.steps().empty()) return {};
    throw InputError(fmt::format(
        "checkpoint.resume is \"never\", but run.output_dir {} holds checkpoints of an earlier "
        "run; name another directory, or resume",
        directory.parent_path().string()));
  }
  if (wish == "auto") return newest_intact(store, report);
  if (!store.steps().empty()) {
    refuse_going_back(wish, store);
    const std::filesystem::path own = newest_intact(store, report);
    report.note(fmt::format("run.output_dir has checkpoints: the run goes on from {}, not from {}",
                            own.string(), wish));
    return own;
  }
  if (!std::filesystem::exists(std::filesystem::path(wish) / checkpoint::kManifestName)) {
    throw InputError(fmt::format(
        "checkpoint.resume \"{}\" is no checkpoint: it has no manifest.json; legal: \"auto\", "
        "\"never\" or the directory of a step, such as runs/first/checkpoints/step-00000100",
        wish));
  }
  checkpoint::verify(wish);
  return wish;
}

}  // namespace longspan::train
