#include "train/starting_point.h"

#include <fmt/format.h>

#include <vector>

#include "longspan/backend/dry.h"
#include "longspan/base/error.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"
#include "train/adapter_files.h"
#include "train/pretrained.h"

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

std::filesystem::path starting_point(const CommonJob& job, const std::filesystem::path& directory,
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

std::string load_files(const Job& job, TrainingStep& step, backend::Backend& backend,
                       const comm::Communicator& world, bool is_new) {
  const std::string weights = fmt::format("weights of {}", job.model_from);
  if (!job.lora()) {
    load_pretrained(job.model_from, step.model(), step.optimizer(), backend, world);
    return weights;
  }
  load_pretrained(job.model_from, step.model(), backend, world);
  if (!is_new || job.adapter.from.empty()) return weights;
  load_adapter(job.adapter.from, step.model(), step.optimizer(), backend);
  return fmt::format("{} and the adapter of {}", weights, job.adapter.from);
}

void check_files_of(const Job& job) {
  if (job.model_from.empty()) return;
  checkpoint::match(checkpoint::ModelFiles(job.model_from), wanted_tensors(job.model));
  if (job.adapter.from.empty()) return;
  backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
  model::Decoder model(job.model, base::DType::kFloat32, nothing, {}, {}, nullptr,
                       {.lora = job.lora()});
  open_adapter(job.adapter.from, *model.adapters());
}

void check_adapter_of(const std::filesystem::path& step_directory, const Job& job) {
  const auto lora = job.lora();
  if (lora.has_value() != holds_adapter(step_directory)) {
    throw InputError(fmt::format("{} is the checkpoint of {}, and the job trains {} (adapter.type)",
                                 step_directory.string(), lora ? "a model" : "an adapter",
                                 lora ? "an adapter" : "the model itself"));
  }
  if (!lora) return;
  const model::LoraConfig saved = read_adapter_config(step_directory).lora;
  if (saved.rank == lora->rank && saved.scale() == lora->scale()) return;
  throw InputError(
      fmt::format("{} is of an adapter of rank {} and scale {:g}, and the job's has rank {} and "
                  "scale {:g} (adapter.rank, alpha, rank_stabilized)",
                  step_directory.string(), saved.rank, saved.scale(), lora->rank, lora->scale()));
}

}  // namespace longspan::train
