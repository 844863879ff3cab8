#include <fmt/format.h>

#include <algorithm>

#include "train/document_lengths.h"
#include "train/svg.h"

namespace longspan::train {
namespace {

// Two plots of the same bins, one above the other; pixels.
constexpr double kWidth = 960;
constexpr double kHeight = 616;
constexpr double kLeft = 76;
constexpr double kRight = kWidth - 28;
constexpr double kPlotHeight = 200;
constexpr double kDocumentsBottom = 282;
constexpr double kTokensBottom = 550;
constexpr double kBarPart = 0.86;  ///< of a bin's width
constexpr std::size_t kMostLabels = 24;

constexpr const char* kDocumentsColour = "#1f5fa8";
constexpr const char* kTokensColour = "#d1561a";
constexpr const char* kGrid = "#dfe4ea";
constexpr const char* kAxis = "#8a929c";

struct Plot {
  const char* name;
  const char* colour;
  double bottom;
  std::int64_t LengthBin::*counted;
  std::int64_t all;
};

double bin_width(const DocumentLengths& lengths) {
  return (kRight - kLeft) / static_cast<double>(lengths.bins.size());
}

/// Shares in percent, and the lines that tell them.
std::string grid(const Plot& plot, double top_percent) {
  const auto ticks = nice_ticks(0, top_percent, 5, 0.01);
  const double spacing = ticks.size() > 1 ? ticks[1] - ticks[0] : top_percent;
  std::string svg;
  for (const double tick : ticks) {
    const double y = plot.bottom - tick / top_percent * kPlotHeight;
    svg += line_at(kLeft, y, kRight, y, tick == 0 ? kAxis : kGrid);
    svg += text_at(kLeft - 8, y + 4, "text-anchor=\"end\"", tick_text(tick, spacing) + "%");
  }
  return svg + text_at(kLeft, plot.bottom - kPlotHeight - 12,
                       fmt::format("font-weight=\"bold\" fill=\"{}\"", plot.colour).c_str(),
                       plot.name);
}

std::string bars(const Plot& plot, const DocumentLengths& lengths, double top_percent) {
  const double width = bin_width(lengths);
  std::string svg;
  double x = kLeft + width * (1 - kBarPart) / 2;
  for (const LengthBin& bin : lengths.bins) {
    const double percent =
        100 * static_cast<double>(bin.*plot.counted) / static_cast<double>(plot.all);
    const double height = percent / top_percent * kPlotHeight;
    if (height > 0) {
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x,
          plot.bottom - height, width * kBarPart, height, plot.colour);
    }
    x += width;
  }
  return svg;
}

/// Where bins begin.
std::string labels(const DocumentLengths& lengths, double bottom) {
  const std::size_t every = lengths.bins.size() / kMostLabels + 1;
  std::string svg;
  for (std::size_t i = 0; i < lengths.bins.size(); i += every) {
    const double x = kLeft + bin_width(lengths) * static_cast<double>(i);
    svg += line_at(x, bottom, x, bottom + 5, kAxis);
    svg += text_at(x, bottom + 20, "text-anchor=\"middle\"", power_text(lengths.bins[i].from));
  }
  return svg;
}

std::string plot_of(const Plot& plot, const DocumentLengths& lengths) {
  double top = 0;
  for (const LengthBin& bin : lengths.bins) {
    top =
        std::max(top, 100 * static_cast<double>(bin.*plot.counted) / static_cast<double>(plot.all));
  }
  return grid(plot, top) + bars(plot, lengths, top) + labels(lengths, plot.bottom);
}

}  // namespace

std::string lengths_picture(const DocumentLengths& lengths, const std::string& title) {
  std::string svg = open_svg(kWidth, kHeight, kLeft, title);
  if (lengths.tokens == 0) return svg + text_at(kLeft, 80, "", "No tokens.") + "</svg>\n";
  svg += plot_of({"Documents by their tokens", kDocumentsColour, kDocumentsBottom,
                  &LengthBin::documents, lengths.documents},
                 lengths);
  svg += plot_of({"Tokens by the tokens of their document", kTokensColour, kTokensBottom,
                  &LengthBin::tokens, lengths.tokens},
                 lengths);
  std::string figures = fmt::format("{} documents, {} tokens; mean {:.0f}", lengths.documents,
                                    lengths.tokens, lengths.mean());
  for (std::size_t i = 0; i < DocumentLengths::kPercents.size(); ++i) {
    const double percent = DocumentLengths::kPercents[i];
    if (percent < 50) continue;
    figures += fmt::format(", {} {}", percentile_name(percent), lengths.percentiles[i]);
  }
  return svg + text_at(kLeft, kHeight - 16, "fill=\"#5c6671\"", figures) + "</svg>\n";
}

}  // namespace longspan::train
