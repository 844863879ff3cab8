#include "train/group_pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/plan/cost_fit.h"
#include "longspan/shard/mesh.h"
#include "train/dry_step.h"
#include "train/parallel_layout.h"

namespace longspan::train {
namespace {

/// Sizes that groups of these ranks can have.
std::vector<int> degrees_of(int ranks) {
  std::vector<int> degrees = shard::aligned_sizes(ranks);
  std::erase_if(degrees, [](int degree) { return degree > kMostSequenceRanks; });
  return degrees;
}

double squares_of(const PassSize& size) {
  const std::int64_t count = size.tokens / size.longest;
  const auto whole = static_cast<double>(count);
  const auto longest = static_cast<double>(size.longest);
  const auto rest = static_cast<double>(size.tokens % size.longest);
  return whole * longest * longest + rest * rest;
}

std::int64_t most_of_group(const Job& job, const CostOptions& options, int degree,
                           std::int64_t capacity) {
  const std::int64_t most = options.most_tokens > 0
                                ? options.most_tokens * degree
                                : std::max<std::int64_t>(job.training.tokens_per_step, degree);
  return std::min(most, capacity);
}

/// The job at each level that is asked for, and the level's name: empty for the job's own.
std::vector<std::pair<std::string, Job>> jobs_of_levels(const Job& job,
                                                        const CostOptions& options) {
  if (job.memory.chooses_saved_inputs()) {
    throw base::InputError(
        "memory.saved_inputs.policy is \"auto\", which chooses for rows of one length, and groups "
        "have rows of any; say by slot how they wait");
  }
  std::vector<std::string> levels = options.levels;
  if (levels.empty()) {
    if (!job.memory.chooses_checkpointing()) return {{"", job}};
    for (const auto& words : model::checkpointing_levels()) levels.emplace_back(words.name);
  }
  std::vector<std::pair<std::string, Job>> jobs;
  for (const std::string& level : levels) {
    const bool is_twice =
        std::any_of(jobs.begin(), jobs.end(), [&](const auto& one) { return one.first == level; });
    if (is_twice) {
      throw base::InputError(
          fmt::format("the level \"{}\" of activation checkpointing is named twice", level));
    }
    memory_policy(job, level);  // is it legal?
    jobs.emplace_back(level, job);
    jobs.back().second.memory.activation_checkpointing = level;
  }
  return jobs;
}

/// The first rank of the group that spans most machines: where these are no multiple of groups,
/// not all are alike.
int first_rank_of_widest(const PlanSetting& setting, int degree) {
  const std::int64_t machine = setting.device.devices_per_node;
  int widest = 0;
  std::int64_t most = 0;
  for (int first = 0; first + degree <= setting.ranks; first += degree) {
    const std::int64_t machines = (first + degree - 1) / machine - first / machine;
    if (machines <= most) continue;
    most = machines;
    widest = first;
  }
  return widest;
}

/// A group's part of the time that is there without tokens. Gathering of weights and the like, of
/// every micro-batch, is what an empty pass takes, as far as no group hides it behind its work.
/// Half of a group's time remains its own where measuring found none that grows with its tokens.
double shared_seconds(const std::vector<plan::CostFit>& fits, double empty_seconds) {
  double least = empty_seconds;
  for (const plan::CostFit& fit : fits) {
    const bool grows = fit.per_token > 0 || fit.per_token_squared > 0;
    least = std::min(least, grows ? fit.fixed : fit.fixed / 2);
  }
  return least;
}

}  // namespace

Job with_groups(const Job& job, int ranks, int degree, std::int64_t tokens) {
  Job changed = job;
  changed.parallel.planner = "fixed";
  changed.parallel.data = 0;
  changed.parallel.sequence = std::to_string(degree);
  changed.training.micro_batch_tokens = tokens;
  changed.training.tokens_per_step = tokens * (ranks / degree);
  return changed;
}

std::vector<int> unlike_ranks(const Job& job, const PlanSetting& setting) {
  constexpr int kMost = 4;
  const shard::SequenceDegrees degrees = parallel_layout(job, setting.ranks).sequence;
  const int first = first_rank_of_widest(setting, degrees.ranks());
  const int places = std::min(kMost, degrees.ring);
  std::vector<int> ranks;
  for (int i = 0; i < places; ++i) {
    const int part = places == 1 ? 0 : i * (degrees.ring - 1) / (places - 1);
    ranks.push_back(first + part * degrees.ulysses);
  }
  return ranks;
}

std::vector<PassSize> pass_sizes(std::int64_t most, std::int64_t longest) {
  // Of shorter documents what each of them takes by itself would show, which a model has no word
  // for.
  constexpr std::int64_t kShortest = 64;
  std::vector<PassSize> sizes;
  for (const std::int64_t part : {1, 4, 16}) {
    const std::int64_t tokens = std::max<std::int64_t>(1, most / part);
    const std::int64_t whole = std::min(longest, tokens);
    for (const std::int64_t documents : {1, 4, 16}) {
      const std::int64_t document = std::max(std::min(kShortest, whole), whole / documents);
      const bool is_there = std::any_of(sizes.begin(), sizes.end(), [&](const PassSize& size) {
        return size.tokens == tokens && size.longest == document;
      });
      if (!is_there) sizes.push_back({tokens, document});
    }
  }
  return sizes;
}

std::vector<std::int64_t> rooms_of(const Job& job, const PlanSetting& setting,
                                   const CostOptions& options) {
  std::vector<std::int64_t> rooms;
  for (const auto& [level, at_level] : jobs_of_levels(job, options)) {
    for (const int degree : degrees_of(setting.ranks)) {
      rooms.push_back(group_capacity(at_level, setting, degree));
    }
  }
  return rooms;
}

std::vector<KindJob> kinds_of(const Job& job, const PlanSetting& setting,
                              const CostOptions& options, const std::vector<std::int64_t>& rooms) {
  std::vector<KindJob> kinds;
  auto room = rooms.begin();
  for (const auto& [level, at_level] : jobs_of_levels(job, options)) {
    for (const int degree : degrees_of(setting.ranks)) {
      const std::int64_t capacity = *room++;
      if (capacity == 0) continue;
      KindJob one;
      one.kind.degree = degree;
      one.kind.level = level;
      one.kind.max_tokens = capacity;
      const std::int64_t most = most_of_group(job, options, degree, capacity);
      one.job = with_groups(at_level, setting.ranks, degree, most);
      one.sizes = pass_sizes(most, std::min(most, job.training.micro_batch_tokens));
      kinds.push_back(std::move(one));
    }
  }
  if (kinds.empty()) {
    throw base::InputError(fmt::format(
        "not even one token fits into any group of the {} rank(s): weights, gradients and "
        "optimizer state alone take more than the {} bytes of {}; raise parallel.zero_stage, use "
        "more ranks, a device with more memory or a smaller model",
        setting.ranks, limit_of(job, setting), setting.device.name));
  }
  return kinds;
}

Costs fit_kinds(int ranks, const std::vector<KindJob>& kinds, double empty_seconds,
                const std::vector<std::vector<double>>& seconds) {
  Costs costs;
  costs.model.ranks = ranks;
  std::vector<plan::CostFit> fits;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    std::vector<plan::CostPoint> points;
    for (std::size_t i = 0; i < kinds[kind].sizes.size(); ++i) {
      const PassSize& size = kinds[kind].sizes[i];
      points.push_back({static_cast<double>(size.tokens), squares_of(size), seconds[kind][i]});
    }
    fits.push_back(plan::fit_costs(points));
    for (std::size_t i = 0; i < points.size(); ++i) {
      const PassSize& size = kinds[kind].sizes[i];
      costs.checks.push_back({kind, size.tokens, size.longest, points[i].seconds,
                              fits.back().seconds(points[i].tokens, points[i].squares)});
    }
  }
  costs.model.micro_batch_seconds = shared_seconds(fits, empty_seconds);
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    plan::GroupKind fitted = kinds[kind].kind;
    fitted.fixed_seconds = fits[kind].fixed - costs.model.micro_batch_seconds;
    fitted.seconds_per_token = fits[kind].per_token;
    fitted.seconds_per_token_squared = fits[kind].per_token_squared;
    costs.model.kinds.push_back(std::move(fitted));
  }
  return costs;
}

std::string costs_subject(const Job& job, const PlanSetting& setting) {
  return fmt::format("{} on {} x {}, ZeRO stage {}", job.run.name, setting.ranks,
                     setting.device.name, job.parallel.zero_stage);
}

}  // namespace longspan::train
