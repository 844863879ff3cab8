#include "longspan/train/verify.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "longspan/backend/host_values.h"
#include "longspan/base/error.h"
#include "longspan/train/device.h"
#include "train/corpus.h"
#include "train/dry_step.h"
#include "train/group_costs.h"
#include "train/planner.h"
#include "train/resources.h"
#include "train/shrink.h"
#include "train/slot_choice.h"
#include "train/step_plan.h"
#include "train/training_step.h"

namespace longspan::train {
namespace {

using backend::Index;
using backend::Tensor;

/// Rounding of sums in another order, with room; a wrong layout is off by far more. Beyond some
/// thousand tokens it grows as a random walk of them does.
double tolerance_of(const Job& job) {
  constexpr double kTokens = 16384;
  const std::string& precision = job.training.precision;
  const double base = precision == "fp64" ? 1e-10 : precision == "fp32" ? 1e-5 : 5e-2;
  return base *
         std::sqrt(std::max(1.0, static_cast<double>(job.training.tokens_per_step) / kTokens));
}

/// Token ids as far as the shrunk vocabulary has them.
std::shared_ptr<const data::MicroBatch> within(const data::MicroBatch& row, std::int64_t vocab) {
  auto result = std::make_shared<data::MicroBatch>(row);
  for (auto& token : result->tokens) token = static_cast<data::TokenId>(token % vocab);
  for (auto& label : result->labels) {
    if (label != data::kIgnoredLabel) label = static_cast<std::int32_t>(label % vocab);
  }
  return result;
}

/// The rows of the job's first step, of its own data.
Rows first_rows(const Job& job, const model::ModelConfig& model, const comm::Communicator& world) {
  Job reading = job;
  reading.model = model;  // of the vocabulary that the data were made for
  Corpus corpus(reading, world.rank(), world.size());
  Rows rows;
  for (const auto& row : corpus.training().rows(0)) {
    rows.push_back(within(corpus.training().read(row), job.model.vocab_size));
  }
  if (std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row->targets == 0; })) {
    throw base::InputError("no label of the job's first step counts: there is nothing to compare");
  }
  return rows;
}

std::vector<shard::SequenceDegrees> degrees_of(const Job& job, int ranks) {
  if (job.parallel.plans_steps()) return aligned_degrees(job, ranks);
  return {parallel_layout(job, ranks).sequence};
}

std::vector<std::int64_t> lengths_of(const Rows& rows) {
  std::vector<std::int64_t> lengths;
  for (const auto& row : rows) lengths.push_back(static_cast<std::int64_t>(row->tokens.size()));
  return lengths;
}

PlannedStep default_plan(const Job& job, const Rows& rows, int ranks) {
  if (job.parallel.plans_steps()) return {plan_of_all_sizes(lengths_of(rows), ranks), {}};
  const int degree = parallel_layout(job, ranks).sequence.ranks();
  return {fixed_plan(static_cast<std::int64_t>(rows.size()), ranks, degree), {}};
}

/// What the job's planner makes of these sequences, in the memory that a Run has.
PlannedStep planners_plan(const Job& job, const Rows& rows, comm::Communicator& world) {
  plan::CostModel costs;
  comm::run_agreed(world, [&] {
    if (world.rank() > 0) return;
    const PlanSetting setting = PlanSetting::of(job, world);
    Job half = job;
    half.memory.limit = limit_of(job, setting) / 2;
    costs = group_costs(half, setting);
  });
  const auto lengths = [&rows](std::int64_t) { return lengths_of(rows); };
  const auto planner = make_step_planner(job, costs, world, lengths, 1);
  return {planner->plan(0), planner->levels()};
}

/// New adapters begin with zeros, with which half of their gradients are zero, too.
void begin_unlike_zero(nn::ParameterSet& adapters, std::uint64_t seed) {
  for (int number = 0; number < static_cast<int>(adapters.parameters().size()); ++number) {
    if (adapters.at(number).initial_bound == 0.0) adapters.begin_uniform(number, 0.1);
  }
  adapters.initialise(seed, 0.0);
}

/// One step as far as its gradients, which stay on the ranks that own them.
class Run {
 public:
  /// By `ranks`, one or all of the world's. Two runs share what memory the job may take.
  Run(const Job& job, comm::Communicator& ranks, const comm::Communicator& world, const Rows& all,
      const PlannedStep& planned)
      : backend_(make_device(job, world, 0.5)),
        host_(make_host(job, ranks)),
        devices_(link_devices(ranks, *backend_)),
        meshes_(devices_ ? *devices_ : ranks, degrees_of(job, ranks.size())),
        step_(job, *backend_, meshes_.world(), host_.get()) {
    if (step_.model().adapters() != nullptr) begin_unlike_zero(parameters(), job.run.seed);
    const auto passes = passes_of(
        planned.plan, meshes_, numbered([&](std::size_t row) { return all[row]; }, lengths_of(all)),
        policies_of(job, planned.levels));
    loss_ = step_.forward_backward(passes).loss();
    norm_ = std::sqrt(parameters().gradient_squares());
  }

  double loss() const { return loss_; }
  double norm() const { return norm_; }
  nn::ParameterSet& parameters() { return step_.model().trained(); }
  std::vector<double> host(const Tensor& gradient) {
    return backend::host_values(*backend_, gradient);
  }

 private:
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<backend::Backend> host_;
  std::unique_ptr<comm::Communicator> devices_;
  shard::Meshes meshes_;
  TrainingStep step_;
  double loss_ = 0;
  double norm_ = 0;
};

/// Not a number where either is: that is no agreement.
double relative(double difference, double whole) {
  return difference == 0 ? 0.0 : difference / whole;
}

/// Every rank compares the elements that are its own; where all ranks have all, it changes nothing
/// that they count several times.
std::vector<Difference> compare_gradients(Run& shared, Run& alone, comm::Communicator& world) {
  const auto& parameters = alone.parameters().parameters();
  std::vector<double> squares(2 * parameters.size());
  for (const nn::OwnRange& range : shared.parameters().own_ranges()) {
    const auto number = static_cast<std::size_t>(range.number);
    const Index size = parameters[number].gradient_shape().elements();
    const Tensor whole = alone.parameters().gradient(range.number).reshape({size});
    const auto expected = alone.host(whole.rows(range.gradient.begin, range.gradient.end));
    const auto found = shared.host(shared.parameters().own_gradient(range));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double difference = found[i] - expected[i];
      squares[2 * number] += difference * difference;
      squares[2 * number + 1] += expected[i] * expected[i];
    }
  }
  world.all_reduce_sum(squares);
  std::vector<Difference> differences;
  for (std::size_t number = 0; number < parameters.size(); ++number) {
    differences.push_back({parameters[number].name, relative(std::sqrt(squares[2 * number]),
                                                             std::sqrt(squares[2 * number + 1]))});
  }
  return differences;
}

bool is_within(const Difference& difference, double tolerance) {
  return difference.relative <= tolerance;
}

}  // namespace

bool Comparison::agrees() const {
  return is_within(loss_difference, tolerance) && is_within(norm_difference, tolerance) &&
         std::all_of(gradients.begin(), gradients.end(),
                     [&](const Difference& one) { return is_within(one, tolerance); });
}

bool Verification::agrees() const {
  return std::all_of(comparisons.begin(), comparisons.end(),
                     [](const Comparison& one) { return one.agrees(); });
}

Comparison compare(const Job& job, const Job& oracle, const Rows& rows, comm::Communicator& world,
                   const std::optional<PlannedStep>& plan) {
  const auto single = comm::make_single_communicator();
  std::optional<Run> alone;
  comm::run_agreed(
      world, [&] { alone.emplace(oracle, *single, world, rows, default_plan(oracle, rows, 1)); });
  Run shared(job, world, world, rows, plan ? *plan : default_plan(job, rows, world.size()));
  Comparison comparison;
  comparison.precision = job.training.precision;
  comparison.tolerance = tolerance_of(job);
  comparison.loss = alone->loss();
  comparison.loss_difference = {
      "loss", relative(std::abs(shared.loss() - alone->loss()), std::abs(alone->loss()))};
  comparison.norm_difference = {"gradient norm",
                                relative(std::abs(shared.norm() - alone->norm()), alone->norm())};
  comparison.gradients = compare_gradients(shared, *alone, world);
  return comparison;
}

Verification verify(const Job& given, comm::Communicator& world, bool full) {
  omp_set_num_threads(thread_count(given, world.local_size()));
  Job job = given;
  choose_for_all(job, world);
  Verification verification;
  Rows rows;
  comm::run_agreed(world, [&] {
    check_offload(job, job.run.device);
    if (!job.has_backward()) {
      throw base::InputError(fmt::format(
          "optimizer.name is \"{}\", which forms no gradients that could be compared; verify the "
          "layout with --set optimizer.name=adamw",
          job.optimizer.name));
    }
    const ParallelLayout layout = parallel_layout(job, world.size());
    Shrunk small = full ? whole(job) : shrink(job, layout);
    // What "auto" makes of the ranks must not depend on how many rows are left.
    if (!job.parallel.plans_steps()) {
      small.job.parallel.sequence =
          fmt::format("{}x{}", layout.sequence.ulysses, layout.sequence.ring);
    }
    verification.layout = layout_text(job, layout);
    verification.job = std::move(small.job);
    verification.shrunk = std::move(small.changes);
    rows = first_rows(verification.job, job.model, world);
  });
  std::optional<PlannedStep> plan;
  if (full && job.parallel.plans_steps()) plan = planners_plan(job, rows, world);
  std::vector<std::string> precisions{job.training.precision};
  if (precisions.front() == "bf16") precisions.insert(precisions.begin(), "fp32");
  for (const std::string& precision : precisions) {
    Job run = verification.job;
    run.training.precision = precision;
    verification.comparisons.push_back(compare(run, plain(run), rows, world, plan));
  }
  return verification;
}

}  // namespace longspan::train
