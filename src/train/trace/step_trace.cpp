#include "train/trace/step_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "train/trace/chrome_trace.h"
#include "train/trace/traced_communicator.h"

namespace longspan::train {

StepTrace::StepTrace(std::filesystem::path file, std::int64_t steps)
    : file_(std::move(file)), steps_(steps) {}

void StepTrace::check_file() const {
  std::error_code error;
  if (!file_.has_filename() || std::filesystem::is_directory(file_, error)) {
    throw base::InputError(
        fmt::format("--trace \"{}\" is a directory; name a file in it", file_.string()));
  }
  std::filesystem::path probe = file_;
  probe += ".tmp";  // as base::replace_file makes it
  try {
    base::FileWriter{probe}.commit();
  } catch (const base::InputError& cause) {
    throw base::InputError(fmt::format(
        "--trace \"{}\" cannot be written: {}; name a file in a directory that exists and may be "
        "written to",
        file_.string(), cause.what()));
  }
  std::filesystem::remove(probe, error);
}

void StepTrace::observe_device(backend::Backend& device) {
  recorder_.follow(device);
  device.observe(&device_);
}

void StepTrace::observe_host(backend::Backend& host) { host.observe(&host_); }

std::unique_ptr<comm::Communicator> StepTrace::ranks(comm::Communicator& ranks) {
  return make_traced_communicator(ranks, recorder_);
}

void StepTrace::choose_steps(std::int64_t done, std::int64_t last) {
  first_ = done + (last - done > 1 ? 2 : 1);
  last_ = std::min(last, first_ + steps_ - 1);
}

void StepTrace::begin_step(std::int64_t step, comm::Communicator& world) {
  if (step == first_) world.barrier();
  recorder_.begin_step(step);
}

void StepTrace::end_step() {
  recorder_.end_step();
  ++traced_;
}

bool StepTrace::is_over(std::int64_t step, bool stops) const {
  return step == last_ || (stops && step < last_);
}

std::string StepTrace::write(comm::Communicator& world) {
  if (traced_ == 0) throw base::InputError("the run stops before the first step to be traced");
  const std::string own = rank_trace(recorder_.events(), world.rank());
  std::vector<std::string> all;
  // One after another, since only rank 0 has a use for more than its own.
  for (int rank = 0; rank < world.size(); ++rank) {
    std::string text = rank == world.rank() ? own : std::string();
    world.broadcast(text, rank);
    if (world.rank() == 0) all.push_back(std::move(text));
  }
  if (world.rank() == 0) base::replace_file(file_, chrome_trace(all));
  const std::string steps = traced_ == 1
                                ? fmt::format("step {}", first_)
                                : fmt::format("steps {} to {}", first_, first_ + traced_ - 1);
  return fmt::format(
      "trace: {} of {} rank{} in {}; open it in https://ui.perfetto.dev or chrome://tracing", steps,
      world.size(), world.size() == 1 ? "" : "s", file_.string());
}

}  // namespace longspan::train
