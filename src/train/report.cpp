#include "train/report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "longspan/base/file.h"

namespace longspan::train {
namespace {

void print(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
}

std::string format_count(double count) {
  if (count < 1e3) return fmt::format("{:.0f}", count);
  if (count < 1e6) return fmt::format("{:.1f}k", count / 1e3);
  if (count < 1e9) return fmt::format("{:.1f}M", count / 1e6);
  return fmt::format("{:.2f}B", count / 1e9);
}

void Report::start(const CommonJob::Run& run, const std::vector<std::string>& description,
                   const backend::Backend& backend, const comm::Communicator& world,
                   double peak_gflops) {
  if (!enabled_) return;
  print(fmt::format("run     {} in {}", run.name, run.output_dir));
  for (const std::string& line : description) print(line);
  print(fmt::format("device  {} rank{} ({}), each {}: {}, {:.0f} GFLOP/s, {} of memory",
                    world.size(), world.size() == 1 ? "" : "s", world.name(), backend.name(),
                    backend.description(), peak_gflops,
                    base::format_bytes(backend.memory_limit())));
}

void Report::resumed(std::int64_t step, const std::string& directory) {
  if (enabled_) print(fmt::format("resumed after step {} from {}", step, directory));
}

void Report::warning(const std::string& text) {
  if (!enabled_) return;
  std::fputs(("longspan: warning: " + text + "\n").c_str(), stderr);
}

void Report::step(const StepMetrics& metrics, std::int64_t total_steps) {
  if (!enabled_) return;
  recent_seconds_ = recent_seconds_ == 0 ? metrics.step_seconds
                                         : 0.9 * recent_seconds_ + 0.1 * metrics.step_seconds;
  const double left = recent_seconds_ * static_cast<double>(total_steps - metrics.step);
  const auto peak = metrics.peak_bytes.find("total");
  print(fmt::format(
      "step {:>6}/{}  loss {:.4f}  norm {:.3f}  lr {:.2e}  {} tok/s  MFU {:.1f}%  mem {}  left "
      "{}{}",
      metrics.step, total_steps, metrics.loss, metrics.grad_norm, metrics.lr,
      format_count(metrics.tokens_per_second), 100 * metrics.model_flops_utilization,
      base::format_bytes(peak == metrics.peak_bytes.end() ? 0 : peak->second),
      format_duration(left),
      metrics.skipped > 0 ? fmt::format("  skipped {}", metrics.skipped) : ""));
}

void Report::validation(const ValidationMetrics& metrics) {
  if (!enabled_) return;
  std::string line =
      fmt::format("step {:>6}  validation loss {:.4f}", metrics.step, metrics.validation_loss);
  if (metrics.bits_per_byte >= 0) {
    line += fmt::format("  {:.4f} bits per byte", metrics.bits_per_byte);
  }
  if (metrics.psnr) line += fmt::format("  PSNR {:.2f} dB", *metrics.psnr);
  if (metrics.copy_psnr) line += fmt::format(" (last frame copied: {:.2f} dB)", *metrics.copy_psnr);
  print(line);
}

void Report::saved(std::int64_t step, const std::string& directory, double seconds) {
  if (enabled_) {
    print(fmt::format("step {:>6}  saved {} in {:.1f} s", step, directory, seconds));
  }
}

void Report::note(const std::string& text) {
  if (enabled_) print(text);
}

}  // namespace longspan::train
