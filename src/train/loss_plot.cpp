#include "train/loss_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "longspan/base/file.h"
#include "train/metrics.h"
#include "train/svg.h"

namespace longspan::train {
namespace {

// The picture and, inside it, the frame of the plot, in pixels.
constexpr double kWidth = 960;
constexpr double kHeight = 540;
constexpr double kLeft = 76;
constexpr double kRight = kWidth - 28;
constexpr double kTop = 56;
constexpr double kBottom = kHeight - 62;

constexpr std::size_t kMostPoints = 2000;
constexpr std::size_t kMostMarkers = 60;
constexpr std::size_t kFewestToSmooth = 30;

constexpr const char* kTrainingColour = "#1f5fa8";
constexpr const char* kRawColour = "#a9c8e8";
constexpr const char* kValidationColour = "#d1561a";

struct Range {
  double low = 0;
  double high = 1;
  double share(double value) const { return (value - low) / (high - low); }
};

struct Axes {
  Range step;
  Range loss;
  double x(double value) const { return kLeft + step.share(value) * (kRight - kLeft); }
  double y(double value) const { return kBottom - loss.share(value) * (kBottom - kTop); }
};

/// A curve as it is drawn and named.
struct Series {
  std::string name;
  const char* colour;
  double stroke;
  Curve points;
  bool markers;
  bool in_legend;
};

/// Steps from the first to the last, from 0 where that costs little room.
Range step_range(const LossCurves& curves) {
  double low = INFINITY;
  double high = -INFINITY;
  for (const Curve* curve : {&curves.training, &curves.validation}) {
    for (const CurvePoint& point : *curve) {
      low = std::min(low, point.step);
      high = std::max(high, point.step);
    }
  }
  if (low > 0 && low <= 0.1 * high) low = 0;
  if (low == high) return {low - 1, high + 1};
  return {low, high};
}

/// The training losses without the rarest spikes, which would flatten everything else; the first
/// one always counts.
Range typical_losses(const Curve& training) {
  if (training.empty()) return {INFINITY, -INFINITY};
  std::vector<double> values;
  values.reserve(training.size());
  for (const CurvePoint& point : training) values.push_back(point.loss);
  std::sort(values.begin(), values.end());
  const std::size_t rare = values.size() / 200;
  const double first = training.front().loss;
  return {std::min(first, values[rare]), std::max(first, values[values.size() - 1 - rare])};
}

Range loss_range(const LossCurves& curves) {
  Range range = typical_losses(curves.training);
  for (const CurvePoint& point : curves.validation) {
    range.low = std::min(range.low, point.loss);
    range.high = std::max(range.high, point.loss);
  }
  const double spread = range.high - range.low;
  const double margin = spread > 0 ? 0.05 * spread : std::max(0.1, 0.05 * std::abs(range.high));
  const double low = range.low - margin;
  return {range.low >= 0 ? std::max(0.0, low) : low, range.high + margin};
}

/// A spike counts in the average as what is typical at most, or it would lift a whole stretch.
Curve smooth_typical(const Curve& training) {
  const Range typical = typical_losses(training);
  Curve limited = training;
  for (CurvePoint& point : limited) point.loss = std::clamp(point.loss, typical.low, typical.high);
  return smooth(limited, training.size() / 60 + 2);
}

std::vector<Series> make_series(const LossCurves& curves) {
  std::vector<Series> series;
  const Curve& raw = curves.training;
  const Curve thinned = thin_out(raw, kMostPoints);
  if (raw.size() >= kFewestToSmooth) {
    series.push_back({"training", kRawColour, 1.0, thinned, false, false});
    series.push_back({"training (smoothed)", kTrainingColour, 2.2,
                      thin_out(smooth_typical(raw), kMostPoints), false, true});
  } else if (!raw.empty()) {
    series.push_back({"training", kTrainingColour, 2.2, thinned, raw.size() == 1, true});
  }
  const Curve& held_out = curves.validation;
  if (!held_out.empty()) {
    series.push_back({"validation", kValidationColour, 1.8, thin_out(held_out, kMostPoints),
                      held_out.size() <= kMostMarkers, true});
  }
  return series;
}

std::string draw_axes(const Axes& axes) {
  constexpr const char* kGrid = "#e4e7eb";
  constexpr const char* kFrame = "#8a929c";
  std::string svg;
  const auto spacing = [](const std::vector<double>& ticks) {
    return ticks.size() > 1 ? ticks[1] - ticks[0] : 1.0;
  };
  const std::vector<double> steps = nice_ticks(axes.step.low, axes.step.high, 10, 1);
  for (const double tick : steps) {
    const double x = axes.x(tick);
    svg += line_at(x, kTop, x, kBottom, kGrid);
    svg += line_at(x, kBottom, x, kBottom + 5, kFrame);
    svg += text_at(x, kBottom + 20, "text-anchor=\"middle\"", tick_text(tick, spacing(steps)));
  }
  const std::vector<double> losses = nice_ticks(axes.loss.low, axes.loss.high, 8, 0);
  for (const double tick : losses) {
    const double y = axes.y(tick);
    svg += line_at(kLeft, y, kRight, y, kGrid);
    svg += line_at(kLeft - 5, y, kLeft, y, kFrame);
    svg += text_at(kLeft - 9, y + 4, "text-anchor=\"end\"", tick_text(tick, spacing(losses)));
  }
  svg += line_at(kLeft, kTop, kLeft, kBottom, kFrame);
  svg += line_at(kLeft, kBottom, kRight, kBottom, kFrame);
  svg += text_at((kLeft + kRight) / 2, kHeight - 18, "text-anchor=\"middle\"", "step");
  svg += fmt::format(
      "<text transform=\"translate(20 {:.1f}) rotate(-90)\" text-anchor=\"middle\">loss "
      "(nats/token)</text>\n",
      (kTop + kBottom) / 2);
  return svg;
}

std::string draw_series(const Series& series, const Axes& axes) {
  std::string path;
  std::string markers;
  for (const CurvePoint& point : series.points) {
    const double x = axes.x(point.step);
    // A spike far out of the frame is cut by the clip; its coordinate must stay a plain number.
    const double y = std::clamp(axes.y(point.loss), -1e4, 1e4);
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x, y);
    if (series.markers) {
      markers += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.2\" fill=\"{}\"/>\n", x, y,
                             series.colour);
    }
  }
  return fmt::format(
             "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
             "stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n",
             path, series.colour, series.stroke) +
         markers;
}

/// In the upper right corner, which a falling loss leaves free; with each curve's last value.
std::string draw_legend(const std::vector<Series>& series) {
  std::vector<const Series*> shown;
  for (const Series& one : series) {
    if (one.in_legend) shown.push_back(&one);
  }
  if (shown.empty()) return "";
  constexpr double kRow = 20;
  constexpr double kBoxWidth = 268;
  const double left = kRight - kBoxWidth - 10;
  const double height = kRow * static_cast<double>(shown.size()) + 12;
  std::string svg = fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"4\" "
      "fill=\"#ffffff\" "
      "fill-opacity=\"0.88\" stroke=\"#d3d8de\"/>\n",
      left, kTop + 8, kBoxWidth, height);
  double y = kTop + 28;
  for (const Series* one : shown) {
    svg += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-width=\"{}\"/>\n",
        left + 12, y - 4, left + 38, y - 4, one->colour, one->stroke);
    svg += text_at(left + 48, y, "", one->name);
    svg += text_at(left + kBoxWidth - 12, y, "text-anchor=\"end\"",
                   fmt::format("{:.4g}", one->points.back().loss));
    y += kRow;
  }
  return svg;
}

}  // namespace

std::string render_loss_plot(const LossCurves& curves, const std::string& title) {
  std::string svg = open_svg(kWidth, kHeight, kLeft, title);
  const std::vector<Series> series = make_series(curves);
  if (series.empty()) {
    svg +=
        text_at(kWidth / 2, kHeight / 2, "text-anchor=\"middle\"", "no finite loss was recorded");
    return svg + "</svg>\n";
  }
  const Axes axes{step_range(curves), loss_range(curves)};
  svg += draw_axes(axes);
  svg += fmt::format(
      "<clipPath id=\"frame\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n"
      "<g clip-path=\"url(#frame)\">\n",
      kLeft, kTop, kRight - kLeft + 4, kBottom - kTop);
  for (const Series& one : series) svg += draw_series(one, axes);
  svg += "</g>\n" + draw_legend(series);
  return svg + "</svg>\n";
}

std::filesystem::path draw_loss_curves(const std::filesystem::path& directory,
                                       const std::string& title) {
  const std::filesystem::path path = directory / "loss.svg";
  base::replace_file(path, render_loss_plot(read_loss_curves(directory / "metrics.jsonl"), title));
  return path;
}

}  // namespace longspan::train
