#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/train/common_job.h"
#include "train/metrics.h"

namespace longspan::train {

/// What a user reads on standard output while a job runs; only rank 0's prints.
class Report {
 public:
  explicit Report(bool enabled) : enabled_(enabled) {}

  /// The job in a few lines: its run, what it trains (`description`), device, ranks, memory.
  void start(const CommonJob::Run& run, const std::vector<std::string>& description,
             const backend::Backend& backend, const comm::Communicator& world, double peak_gflops);
  void resumed(std::int64_t step, const std::string& directory);
  void warning(const std::string& text);
  void step(const StepMetrics& metrics, std::int64_t total_steps);
  void validation(const ValidationMetrics& metrics);
  void saved(std::int64_t step, const std::string& directory, double seconds);
  void note(const std::string& text);

 private:
  bool enabled_;
  double recent_seconds_ = 0;  ///< a step, smoothed: what the time left is told by
};

/// "3m12s", "2h05m", "41s".
std::string format_duration(double seconds);
/// "124.4M", "12.3k", "987".
std::string format_count(double count);

}  // namespace longspan::train
