#include "train/metrics.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "train/tensorboard.h"

namespace longspan::train {
namespace {

using Json = nlohmann::json;

constexpr const char* kFileName = "metrics.jsonl";

/// The shortest text that reads back as the same double.
std::string text_of(double value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  return fmt::format("{}", value);
}

std::string text_of(const std::map<std::string, std::uint64_t>& bytes) {
  std::string text = "{";
  for (const auto& [name, count] : bytes) {
    text += fmt::format("{}{}:{}", text.size() > 1 ? "," : "", base::json_text(Json(name)), count);
  }
  return text + "}";
}

/// Members that follow others; nothing without a plan.
std::string text_of(const std::optional<PlanMetrics>& plan) {
  if (!plan) return "";
  const std::string gap = plan->gap < 0 ? "" : fmt::format(R"("plan_gap":{},)", text_of(plan->gap));
  return fmt::format(R"(,"micro_batches":{},"predicted_seconds":{},{}"planner_wait_seconds":{})",
                     plan->micro_batches, text_of(plan->predicted_seconds), gap,
                     text_of(plan->wait_seconds));
}

std::string line_of(const StepMetrics& metrics) {
  const std::string compressed =
      metrics.compressed_grad_norm
          ? fmt::format(R"("compressed_grad_norm":{},)", text_of(*metrics.compressed_grad_norm))
          : "";
  return fmt::format(
      R"({{"step":{},"tokens":{},"loss":{},"grad_norm":{},{}"lr":{},"step_seconds":{},)"
      R"("tokens_per_second":{},"model_flops_utilization":{},"peak_bytes":{},"comm_bytes":{},)"
      R"("skipped":{}{}}})"
      "\n",
      metrics.step, metrics.tokens, text_of(metrics.loss), text_of(metrics.grad_norm), compressed,
      text_of(metrics.lr), text_of(metrics.step_seconds), text_of(metrics.tokens_per_second),
      text_of(metrics.model_flops_utilization), text_of(metrics.peak_bytes),
      text_of(metrics.comm_bytes), metrics.skipped, text_of(metrics.plan));
}

std::string line_of(const ValidationMetrics& metrics) {
  std::string line = fmt::format(R"({{"step":{},"validation_loss":{})", metrics.step,
                                 text_of(metrics.validation_loss));
  if (!(metrics.bits_per_byte < 0)) {
    line += fmt::format(R"(,"bits_per_byte":{})", text_of(metrics.bits_per_byte));
  }
  if (metrics.psnr) line += fmt::format(R"(,"psnr":{})", text_of(*metrics.psnr));
  if (metrics.copy_psnr) line += fmt::format(R"(,"copy_psnr":{})", text_of(*metrics.copy_psnr));
  return line + "}\n";
}

/// The step of a line; nullopt when it is no line of ours.
std::optional<std::int64_t> step_of(std::string_view line) {
  const Json value = base::try_parse_json(line);
  if (!value.is_object()) return std::nullopt;
  const auto step = value.find("step");
  if (step == value.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<std::int64_t>();
}

/// The lines up to `resumed_step`, byte for byte. What a crash leaves at the end (half a line,
/// blocks never written) is dropped; damage with good lines after it is not ours to repair.
std::string kept_lines(std::string_view text, std::int64_t resumed_step,
                       const std::filesystem::path& path) {
  std::string kept;
  std::size_t damaged_line = 0;
  std::size_t number = 1;
  for (std::size_t begin = 0; begin < text.size(); ++number) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) break;
    const std::optional<std::int64_t> step = step_of(text.substr(begin, end - begin));
    if (!step && damaged_line == 0) damaged_line = number;
    if (step && *step <= resumed_step) {
      if (damaged_line != 0) {
        throw base::InputError(
            fmt::format("{} line {} is not a JSON object with a step, but line {} is: repair or "
                        "move the file away",
                        path.string(), damaged_line, number));
      }
      kept += text.substr(begin, end + 1 - begin);
    }
    begin = end + 1;
  }
  return kept;
}

std::filesystem::path prepare(const std::filesystem::path& directory, std::int64_t resumed_step) {
  base::make_directories(directory);
  const std::filesystem::path path = directory / kFileName;
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    const std::string text = base::read_text(path);
    const std::string kept = kept_lines(text, resumed_step, path);
    if (kept.size() != text.size()) base::replace_file(path, kept);
  }
  return path;
}

}  // namespace

class MetricsWriter::Impl {
 public:
  Impl(const std::filesystem::path& directory, std::int64_t resumed_step, bool tensorboard)
      : lines_(prepare(directory, resumed_step), true) {
    if (tensorboard) events_.emplace(directory, resumed_step);
    base::sync_directory(directory);
  }

  void write_line(const std::string& line) {
    lines_.write(line);
    lines_.flush();
  }
  void write_scalars(std::int64_t step, const std::vector<Scalar>& scalars) {
    if (events_) events_->write(step, scalars);
  }
  void sync() {
    lines_.sync();
    if (events_) events_->sync();
  }

 private:
  base::FileWriter lines_;
  std::optional<EventFile> events_;
};

MetricsWriter::MetricsWriter(const std::filesystem::path& directory, std::int64_t resumed_step,
                             bool tensorboard)
    : impl_(std::make_unique<Impl>(directory, resumed_step, tensorboard)) {}

MetricsWriter::~MetricsWriter() = default;

void MetricsWriter::write(const StepMetrics& metrics) {
  impl_->write_line(line_of(metrics));
  std::vector<Scalar> scalars = {{"train/loss", metrics.loss},
                                 {"train/grad_norm", metrics.grad_norm},
                                 {"train/lr", metrics.lr},
                                 {"train/tokens_per_second", metrics.tokens_per_second},
                                 {"train/mfu", metrics.model_flops_utilization}};
  if (const auto total = metrics.peak_bytes.find("total"); total != metrics.peak_bytes.end()) {
    scalars.push_back({"memory/peak_total", static_cast<double>(total->second)});
  }
  impl_->write_scalars(metrics.step, scalars);
}

void MetricsWriter::write(const ValidationMetrics& metrics) {
  impl_->write_line(line_of(metrics));
  std::vector<Scalar> scalars = {{"validation/loss", metrics.validation_loss}};
  if (!(metrics.bits_per_byte < 0)) {
    scalars.push_back({"validation/bits_per_byte", metrics.bits_per_byte});
  }
  if (metrics.psnr) scalars.push_back({"validation/psnr", *metrics.psnr});
  if (metrics.copy_psnr) scalars.push_back({"validation/copy_psnr", *metrics.copy_psnr});
  impl_->write_scalars(metrics.step, scalars);
}

void MetricsWriter::sync() { impl_->sync(); }

}  // namespace longspan::train
