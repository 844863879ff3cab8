#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/file.h"
#include "longspan/train/plan.h"
#include "train/svg.h"

namespace longspan::train {
namespace {

// The picture and, inside it, the frame of the plot, in pixels.
constexpr double kWidth = 960;
constexpr double kHeight = 540;
constexpr double kLeft = 76;
constexpr double kRight = kWidth - 170;
constexpr double kTop = 64;
constexpr double kBottom = kHeight - 62;
constexpr std::size_t kMostColumns = 1200;

struct Unit {
  const char* name;
  double bytes;
};
constexpr Unit kMiB{"MiB", 1048576.0};
constexpr Unit kGiB{"GiB", 1073741824.0};

constexpr std::array<const char*, backend::kMemoryTags> kColours = {
    "#1f5fa8", "#4f9d69", "#8a6bb1", "#e0a03a", "#d1561a", "#8a929c"};

struct Axes {
  double seconds;
  double top;  ///< in units
  Unit unit;
  double x(double value) const { return kLeft + value / seconds * (kRight - kLeft); }
  double y(double value) const { return kBottom - value / top * (kBottom - kTop); }
};

/// As many samples as there are columns to draw; of those that share one, the largest.
std::vector<backend::DrySample> thin(const std::vector<backend::DrySample>& all, double seconds) {
  std::vector<backend::DrySample> kept;
  std::size_t column = kMostColumns;
  for (const auto& sample : all) {
    const auto its = static_cast<std::size_t>(sample.seconds / seconds * (kMostColumns - 1));
    if (its != column || kept.empty()) {
      kept.push_back(sample);
      column = its;
    } else if (sample.total > kept.back().total) {
      kept.back() = sample;
    }
  }
  return kept;
}

std::string draw_axes(const Axes& axes) {
  std::string svg;
  const auto seconds = nice_ticks(0, axes.seconds, 8, 0);
  for (const double tick : seconds) {
    const double x = axes.x(tick);
    svg += line_at(x, kBottom, x, kBottom + 5, "#8a929c");
    svg += text_at(x, kBottom + 20, "text-anchor=\"middle\"",
                   tick_text(tick, seconds.size() > 1 ? seconds[1] - seconds[0] : 1));
  }
  const auto sizes = nice_ticks(0, axes.top, 8, 0);
  for (const double tick : sizes) {
    const double y = axes.y(tick);
    svg += line_at(kLeft, y, kRight, y, "#e4e7eb");
    svg += text_at(kLeft - 9, y + 4, "text-anchor=\"end\"",
                   tick_text(tick, sizes.size() > 1 ? sizes[1] - sizes[0] : 1));
  }
  svg += text_at((kLeft + kRight) / 2, kHeight - 18, "text-anchor=\"middle\"",
                 "estimated time in the step (s)");
  svg += fmt::format(
      "<text transform=\"translate(20 {:.1f}) rotate(-90)\" text-anchor=\"middle\">memory of a "
      "rank "
      "({})</text>\n",
      (kTop + kBottom) / 2, axes.unit.name);
  return svg;
}

/// One band a tag, stacked; a step line, since memory changes at once.
std::string draw_bands(const std::vector<backend::DrySample>& samples, const Axes& axes) {
  std::string svg;
  std::vector<double> floor(samples.size());
  for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) {
    std::string upper;
    std::string lower;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const double from = axes.x(samples[i].seconds);
      const double to = axes.x(i + 1 < samples.size() ? samples[i + 1].seconds : axes.seconds);
      const double top = floor[i] + static_cast<double>(samples[i].live[tag]) / axes.unit.bytes;
      upper += fmt::format("{}{:.1f} {:.1f}L{:.1f} {:.1f}", i == 0 ? "M" : "L", from, axes.y(top),
                           to, axes.y(top));
      lower.insert(0, fmt::format("L{:.1f} {:.1f}L{:.1f} {:.1f}", to, axes.y(floor[i]), from,
                                  axes.y(floor[i])));
      floor[i] = top;
    }
    svg += fmt::format("<path d=\"{}{}Z\" fill=\"{}\"/>\n", upper, lower, kColours[tag]);
  }
  return svg;
}

std::string draw_legend(const Plan& plan) {
  std::string svg;
  double y = kTop + 14;
  for (std::size_t tag = backend::kMemoryTags; tag-- > 0;) {
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"14\" height=\"14\" fill=\"{}\"/>\n",
                       kRight + 14, y - 12, kColours[tag]);
    svg += text_at(kRight + 34, y, "", name_of(static_cast<backend::MemoryTag>(tag)));
    svg += text_at(kRight + 34, y + 15, "font-size=\"11\" fill=\"#6b7480\"",
                   "at most " + base::format_bytes(plan.peak_bytes[tag]));
    y += 40;
  }
  return svg;
}

/// White behind the letters, since they may lie on a band.
constexpr const char* kHalo = "stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\"";

std::string draw_limit(const Plan& plan, const Axes& axes) {
  const double y = axes.y(static_cast<double>(plan.limit) / axes.unit.bytes);
  return line_at(kLeft, y, kRight, y, "#b3261e") +
         text_at(kRight - 4, y - 6,
                 fmt::format("fill=\"#b3261e\" text-anchor=\"end\" {}", kHalo).c_str(),
                 "limit " + base::format_bytes(plan.limit));
}

/// A ring, with its text below, where the line of the limit does not cross it.
std::string draw_peak(const Plan& plan, const backend::DrySample& peak, const Axes& axes) {
  const double x = axes.x(peak.seconds);
  const double y = axes.y(static_cast<double>(peak.total) / axes.unit.bytes);
  const bool is_left = x < (kLeft + kRight) / 2;
  return fmt::format(
             "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"none\" stroke=\"#1c2229\" "
             "stroke-width=\"2\"/>\n",
             x, y) +
         text_at(x + (is_left ? 9 : -9), y + 22,
                 fmt::format("font-weight=\"bold\" text-anchor=\"{}\" {}",
                             is_left ? "start" : "end", kHalo)
                     .c_str(),
                 escape("peak " + base::format_bytes(plan.peak_total) + " in " + plan.peak_place));
}

}  // namespace

std::string plan_picture(const Plan& plan) {
  const Unit unit = static_cast<double>(plan.peak_total) < kGiB.bytes ? kMiB : kGiB;
  const double peak = static_cast<double>(plan.peak_total) / unit.bytes;
  const double limit = static_cast<double>(plan.limit) / unit.bytes;
  const bool shows_limit = limit < 4 * peak;
  const Axes axes{std::max(plan.seconds(), 1e-9),
                  1.1 * (shows_limit ? std::max(peak, limit) : peak), unit};
  const auto samples = thin(plan.timeline, axes.seconds);
  std::string svg = open_svg(kWidth, kHeight, kLeft,
                             fmt::format("{}: {} x {} tokens on {}", plan.name, plan.micro_batches,
                                         plan.micro_batch_tokens, plan.device.name));
  svg += draw_axes(axes) + draw_bands(samples, axes);
  if (shows_limit) svg += draw_limit(plan, axes);
  const auto highest =
      std::max_element(samples.begin(), samples.end(),
                       [](const auto& one, const auto& other) { return one.total < other.total; });
  if (highest != samples.end()) svg += draw_peak(plan, *highest, axes);
  return svg + draw_legend(plan) + "</svg>\n";
}

}  // namespace longspan::train
