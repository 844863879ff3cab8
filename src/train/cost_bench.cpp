// Costs of groups, measured.
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/train/cost_model.h"
#include "longspan/train/device.h"
#include "train/dry_step.h"
#include "train/group_pass.h"
#include "train/parallel_layout.h"
#include "train/resources.h"
#include "train/step_plan.h"
#include "train/timing.h"

namespace longspan::train {
namespace {

using Clock = std::chrono::steady_clock;

/// A pass that all ranks run, and how long it took each time.
struct Timed {
  RankPass pass;
  std::vector<double> seconds;
};

/// Rank 0 finds out what fits, for all.
std::vector<std::int64_t> agreed_rooms(const Job& job, const PlanSetting& setting,
                                       const CostOptions& options, comm::Communicator& world) {
  std::vector<std::int64_t> rooms;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) rooms = rooms_of(job, setting, options);
  });
  std::vector<double> count = {static_cast<double>(rooms.size())};
  world.all_reduce_max(count);
  std::vector<double> values(rooms.begin(), rooms.end());
  values.resize(static_cast<std::size_t>(count[0]));
  world.all_reduce_max(values);
  return {values.begin(), values.end()};
}

/// All kinds of one level, on this rank's device.
class LevelBench {
 public:
  LevelBench(const std::vector<KindJob>& kinds, comm::Communicator& world)
      : job_(&heaviest(kinds)), world_(&world) {
    comm::run_agreed(world, [&] {
      device_ = make_device(*job_, world);
      host_ = make_host(*job_, world);
    });
    linked_ = link_devices(world, *device_);
    comm::Communicator& ranks = linked_ ? *linked_ : world;
    std::vector<shard::SequenceDegrees> degrees;
    for (const KindJob& kind : kinds) {
      degrees.push_back(parallel_layout(kind.job, world.size()).sequence);
    }
    meshes_ = std::make_unique<shard::Meshes>(ranks, degrees);
    comm::run_agreed(world, [&] {
      step_ = std::make_unique<TrainingStep>(*job_, *device_, ranks, host_.get());
    });
    for (const KindJob& kind : kinds) {
      for (const PassSize& size : kind.sizes) {
        timed_.push_back({{full_row(size.tokens, size.longest, job_->model.vocab_size),
                           meshes_->of_size(kind.kind.degree)},
                          {}});
      }
    }
    timed_.push_back({{empty_micro_batch(), nullptr}, {}});
  }

  /// The passes in turn, so that what disturbs the machine for a while disturbs all alike. The
  /// first time around is not counted: it meets memory and shapes for the first time.
  void run(int repeats) {
    nn::ParameterSet& parameters = step_->model().trained();
    if (parameters.trains()) parameters.start_gradients();
    for (int i = 0; i <= repeats; ++i) {
      for (Timed& one : timed_) {
        const double seconds = seconds_of(one.pass);
        if (i > 0) one.seconds.push_back(seconds);
      }
      // From the second time on sampled gradients are of a part of the tokens, as in a run.
      parameters.row_sampling().settle(*world_);
    }
    if (parameters.trains()) parameters.reduce_gradients();
  }

  /// Medians: of the sizes of each kind, in order, then that of an empty pass.
  std::vector<double> seconds() const {
    std::vector<double> medians;
    for (const Timed& one : timed_) medians.push_back(median(one.seconds));
    return medians;
  }

 private:
  /// The job whose ranks have most tokens: what is kept on the host is most there.
  static const Job& heaviest(const std::vector<KindJob>& kinds) {
    const auto tokens_of_rank = [](const KindJob& kind) {
      return static_cast<double>(kind.job.training.micro_batch_tokens) / kind.kind.degree;
    };
    return std::max_element(kinds.begin(), kinds.end(),
                            [&](const KindJob& a, const KindJob& b) {
                              return tokens_of_rank(a) < tokens_of_rank(b);
                            })
        ->job;
  }

  /// Of the slowest rank.
  double seconds_of(const RankPass& pass) {
    const double scale = 1.0 / static_cast<double>(std::max<std::int64_t>(1, pass.batch->targets));
    device_->synchronize();
    world_->barrier();
    const auto start = Clock::now();
    step_->pass(pass, scale);
    device_->synchronize();
    std::vector<double> seconds = {std::chrono::duration<double>(Clock::now() - start).count()};
    world_->all_reduce_max(seconds);
    return seconds[0];
  }

  const Job* job_;
  comm::Communicator* world_;
  std::unique_ptr<backend::Backend> device_;
  std::unique_ptr<backend::Backend> host_;
  std::unique_ptr<comm::Communicator> linked_;
  std::unique_ptr<shard::Meshes> meshes_;
  std::unique_ptr<TrainingStep> step_;
  std::vector<Timed> timed_;
};

/// The kinds from `first` on that have its level.
std::vector<KindJob> of_one_level(const std::vector<KindJob>& kinds, std::size_t first) {
  std::vector<KindJob> alike;
  for (std::size_t i = first; i < kinds.size() && kinds[i].kind.level == kinds[first].kind.level;
       ++i) {
    alike.push_back(kinds[i]);
  }
  return alike;
}

void check_device(const Job& job, const PlanSetting& setting) {
  if (setting.device.kind == job.run.device) return;
  throw base::InputError(
      fmt::format("run.device_profile \"{}\" is a {} device, but run.device is \"{}\"; set "
                  "run.device_profile to \"{}\" to measure there",
                  job.run.device_profile, setting.device.kind, job.run.device, job.run.device));
}

}  // namespace

Costs measure_costs(const Job& job, comm::Communicator& world, int repeats,
                    const CostOptions& options) {
  CostOptions bounded = options;
  if (bounded.most_tokens == 0) bounded.most_tokens = job.training.micro_batch_tokens;
  PlanSetting setting;
  comm::run_agreed(world, [&] {
    setting = PlanSetting::of(job, world);
    check_device(job, setting);
  });
  omp_set_num_threads(thread_count(job, world.local_size()));
  const auto rooms = agreed_rooms(job, setting, bounded, world);
  std::vector<KindJob> kinds;
  comm::run_agreed(world, [&] { kinds = kinds_of(job, setting, bounded, rooms); });

  std::vector<std::vector<double>> seconds;
  double empty_seconds = 0;
  for (std::size_t first = 0; first < kinds.size();) {
    const std::vector<KindJob> alike = of_one_level(kinds, first);
    LevelBench bench(alike, world);
    bench.run(repeats);
    const std::vector<double> medians = bench.seconds();
    auto next = medians.begin();
    for (const KindJob& kind : alike) {
      const auto end = next + static_cast<std::ptrdiff_t>(kind.sizes.size());
      seconds.emplace_back(next, end);
      next = end;
    }
    empty_seconds = first == 0 ? *next : std::min(empty_seconds, *next);
    first += alike.size();
  }
  Costs costs = fit_kinds(setting.ranks, kinds, empty_seconds, seconds);
  costs.model.source =
      fmt::format("measured, medians of {}: {}", repeats, costs_subject(job, setting));
  return costs;
}

}  // namespace longspan::train
