#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace longspan::train {

/// How a step was planned, where each has a plan of its own.
struct PlanMetrics {
  double wait_seconds = 0;       ///< that training waited for the planner
  double predicted_seconds = 0;  ///< of the step's passes, by the costs
  double gap = -1;               ///< see plan::StepPlan; negative: unknown, left out
  std::int64_t micro_batches = 0;
};

/// One training step, as written to metrics.jsonl.
struct StepMetrics {
  std::int64_t step = 0;                       ///< counts from 1: steps done
  std::int64_t tokens = 0;                     ///< input tokens of this step, over all ranks
  double loss = 0;                             ///< nats per unmasked label
  double grad_norm = 0;                        ///< before clipping
  std::optional<double> compressed_grad_norm;  ///< likewise, of compressed gradients, if any
  double lr = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  double model_flops_utilization = 0;
  std::map<std::string, std::uint64_t> peak_bytes;  ///< of this step, by tag; largest rank
  std::map<std::string, std::uint64_t> comm_bytes;  ///< by kind, this step, summed over ranks
  std::int64_t skipped = 0;                         ///< steps skipped so far
  std::optional<PlanMetrics> plan;
};

struct ValidationMetrics {
  std::int64_t step = 0;
  double validation_loss = 0;
  double bits_per_byte = -1;  ///< negative: unknown, left out
  /// Of clips: of the next frame as it is predicted, and as a copy of the last one, in decibels.
  std::optional<double> psnr = std::nullopt;
  std::optional<double> copy_psnr = std::nullopt;
};

/// The run directory's record of a run: metrics.jsonl, TensorBoard events, and at the end the
/// picture of the loss curves. Used by rank 0 alone. A value that is not finite is written as the
/// strings "NaN", "Infinity", "-Infinity" in JSON.
class MetricsWriter {
 public:
  /// Opens `directory`/metrics.jsonl for appending after dropping the lines of steps beyond
  /// `resumed_step` (0: all of them) and an incomplete last line. TensorBoard events go to a new
  /// file in the same directory. This and what writes throw InputError with file and reason.
  MetricsWriter(const std::filesystem::path& directory, std::int64_t resumed_step,
                bool tensorboard);
  ~MetricsWriter();

  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);
  /// Makes durable what was written (called before a checkpoint commits).
  void sync();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Draws `directory`/loss.svg from `directory`/metrics.jsonl: training loss (and a smoothed line),
/// validation loss, axes with ticks, title. Returns the path.
std::filesystem::path draw_loss_curves(const std::filesystem::path& directory,
                                       const std::string& title);

}  // namespace longspan::train
