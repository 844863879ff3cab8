// An evaluation for people and for programs.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "longspan/base/json.h"
#include "longspan/train/evaluate.h"
#include "train/svg.h"
#include "train/text_stream.h"

namespace longspan::train {
namespace {

using nlohmann::ordered_json;

std::string range_text(const PositionLosses& positions) {
  if (positions.first == positions.last) return fmt::format("{}", positions.first);
  return fmt::format("{}-{}", positions.first, positions.last);
}

// The picture and, inside it, the frame of the plot, in pixels.
constexpr double kWidth = 960;
constexpr double kHeight = 540;
constexpr double kLeft = 76;
constexpr double kRight = kWidth - 28;
constexpr double kTop = 56;
constexpr double kBottom = kHeight - 62;

constexpr const char* kColour = "#1f5fa8";
constexpr const char* kMeanColour = "#d1561a";
constexpr const char* kGrid = "#e4e7eb";
constexpr const char* kFrame = "#8a929c";

/// Losses up the picture; buckets side by side.
struct Axes {
  double low = 0;
  double high = 1;
  std::size_t buckets = 1;

  explicit Axes(const Evaluation& evaluation) : buckets(evaluation.positions.size()) {
    low = high = evaluation.loss();
    for (const PositionLosses& one : evaluation.positions) {
      low = std::min(low, one.loss());
      high = std::max(high, one.loss());
    }
    const double margin = std::max({0.08 * (high - low), 0.01 * std::abs(high), 1e-3});
    low = low >= 0 ? std::max(0.0, low - margin) : low - margin;
    high += margin;
  }

  double width() const { return (kRight - kLeft) / static_cast<double>(buckets); }
  double x(std::size_t bucket) const { return kLeft + static_cast<double>(bucket) * width(); }
  double y(double loss) const { return kBottom - (loss - low) / (high - low) * (kBottom - kTop); }
};

std::string draw_axes(const Evaluation& evaluation, const Axes& axes) {
  std::string svg;
  const std::vector<double> ticks = nice_ticks(axes.low, axes.high, 8, 0);
  const double spacing = ticks.size() > 1 ? ticks[1] - ticks[0] : 1.0;
  for (const double tick : ticks) {
    const double y = axes.y(tick);
    svg += line_at(kLeft, y, kRight, y, kGrid);
    svg += line_at(kLeft - 5, y, kLeft, y, kFrame);
    svg += text_at(kLeft - 9, y + 4, "text-anchor=\"end\"", tick_text(tick, spacing));
  }
  // Names of many narrow buckets would run into each other.
  const bool is_narrow = axes.width() < 74;
  for (std::size_t i = 0; i < axes.buckets; ++i) {
    const PositionLosses& one = evaluation.positions[i];
    svg += line_at(axes.x(i), kBottom, axes.x(i), kBottom + 5, kFrame);
    const std::string name = is_narrow ? fmt::format("{}", one.first) : range_text(one);
    svg += is_narrow ? text_at(axes.x(i), kBottom + 20, "text-anchor=\"middle\"", name)
                     : text_at(axes.x(i) + axes.width() / 2, kBottom + 20, "text-anchor=\"middle\"",
                               name);
  }
  svg += line_at(kLeft, kTop, kLeft, kBottom, kFrame);
  svg += line_at(kLeft, kBottom, kRight, kBottom, kFrame);
  svg += text_at((kLeft + kRight) / 2, kHeight - 18, "text-anchor=\"middle\"",
                 is_narrow ? "position in the window, from" : "position in the window");
  svg += fmt::format(
      "<text transform=\"translate(20 {:.1f}) rotate(-90)\" text-anchor=\"middle\">loss "
      "(nats/token)</text>\n",
      (kTop + kBottom) / 2);
  return svg;
}

/// A step for each bucket, with its loss above it where there is room.
std::string draw_steps(const Evaluation& evaluation, const Axes& axes) {
  std::string path;
  std::string figures;
  for (std::size_t i = 0; i < axes.buckets; ++i) {
    const double y = axes.y(evaluation.positions[i].loss());
    path += fmt::format("{}{:.1f} {:.1f}L{:.1f} {:.1f}", path.empty() ? "M" : "L", axes.x(i), y,
                        axes.x(i) + axes.width(), y);
    figures +=
        text_at(axes.x(i) + axes.width() / 2, y - 7,
                "text-anchor=\"middle\" font-size=\"12\" fill=\"#1f5fa8\" paint-order=\"stroke\" "
                "stroke=\"#ffffff\" stroke-width=\"4\"",
                fmt::format("{:.3f}", evaluation.positions[i].loss()));
  }
  return fmt::format(
             "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.2\" "
             "stroke-linejoin=\"round\"/>\n",
             path, kColour) +
         figures;
}

std::string draw_mean(const Evaluation& evaluation, const Axes& axes) {
  const double y = axes.y(evaluation.loss());
  return fmt::format(
             "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
             "stroke-width=\"1.6\" stroke-dasharray=\"6 4\"/>\n",
             kLeft, y, kRight, y, kMeanColour) +
         text_at(kRight, kTop - 6, "text-anchor=\"end\" fill=\"#d1561a\"",
                 fmt::format("all {} tokens: loss {:.4f}, perplexity {:.4g}", evaluation.targets,
                             evaluation.loss(), std::exp(evaluation.loss())));
}

}  // namespace

std::string evaluation_text(const Evaluation& evaluation) {
  std::string text = fmt::format(
      "{}: {}, {} parameters, {}\n{} document{}, {} tokens, {} predicted; windows of {} tokens, "
      "stride {}\n\nloss {:.6f} nats a token, perplexity {:.4f}",
      evaluation.model, evaluation.model_type, evaluation.parameters, evaluation.precision,
      evaluation.documents, evaluation.documents == 1 ? "" : "s", evaluation.tokens,
      evaluation.targets, evaluation.context_length, evaluation.stride, evaluation.loss(),
      std::exp(evaluation.loss()));
  if (const auto bits = evaluation.bits_per_byte()) {
    text += fmt::format(", {:.4f} bits a byte", *bits);
  }
  text +=
      fmt::format("\n\n{:>15} {:>12} {:>10} {:>12}\n", "position", "tokens", "loss", "perplexity");
  for (const PositionLosses& one : evaluation.positions) {
    text += fmt::format("{:>15} {:>12} {:>10.4f} {:>12.4f}\n", range_text(one), one.targets,
                        one.loss(), std::exp(one.loss()));
  }
  return text;
}

std::string evaluation_json(const Evaluation& evaluation) {
  ordered_json out;
  out["model"] = as_utf8(evaluation.model);
  out["model_type"] = evaluation.model_type;
  out["parameters"] = evaluation.parameters;
  out["precision"] = evaluation.precision;
  out["files"] = ordered_json::array();
  for (const std::string& file : evaluation.files) out["files"].push_back(as_utf8(file));
  out["documents"] = evaluation.documents;
  out["tokens"] = evaluation.tokens;
  out["targets"] = evaluation.targets;
  out["context_length"] = evaluation.context_length;
  out["stride"] = evaluation.stride;
  out["nll"] = evaluation.nll;
  out["loss"] = evaluation.loss();
  out["perplexity"] = std::exp(evaluation.loss());
  const auto bits = evaluation.bits_per_byte();
  out["text_bytes"] = bits ? ordered_json(*evaluation.text_bytes) : ordered_json();
  out["bits_per_byte"] = bits ? ordered_json(*bits) : ordered_json();
  out["positions"] = ordered_json::array();
  for (const PositionLosses& one : evaluation.positions) {
    out["positions"].push_back({{"first", one.first},
                                {"last", one.last},
                                {"targets", one.targets},
                                {"nll", one.nll},
                                {"loss", one.loss()},
                                {"perplexity", std::exp(one.loss())}});
  }
  return base::json_text(out);
}

std::string evaluation_picture(const Evaluation& evaluation) {
  const Axes axes(evaluation);
  return open_svg(kWidth, kHeight, kLeft, "Loss by position: " + as_utf8(evaluation.model)) +
         draw_axes(evaluation, axes) + draw_mean(evaluation, axes) + draw_steps(evaluation, axes) +
         "</svg>\n";
}

}  // namespace longspan::train
