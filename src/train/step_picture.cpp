#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>

#include "longspan/train/batch_plans.h"
#include "train/svg.h"

namespace longspan::train {
namespace {

// The picture and, inside it, the frame of the plot, in pixels.
constexpr double kWidth = 1120;
constexpr double kLeft = 76;
constexpr double kRight = kWidth - 30;
constexpr double kTop = 92;
constexpr double kPlotHeight = 512;
constexpr double kBottom = kTop + kPlotHeight;
constexpr double kHeight = kBottom + 62;
/// Room that a label takes.
constexpr double kLineHeight = 15;
constexpr double kCharacterWidth = 6.6;

/// By the logarithm of the degree; larger ones take the last.
constexpr std::array<const char*, 8> kColours = {"#7fb3d5", "#76c7a4", "#c6d36b", "#f2c14e",
                                                 "#f08a4b", "#d95d67", "#a569bd", "#6c7a89"};

const char* colour_of(int degree) {
  const auto level = static_cast<std::size_t>(std::bit_width(static_cast<unsigned>(degree))) - 1;
  return kColours[std::min(level, kColours.size() - 1)];
}

class StepPicture {
 public:
  StepPicture(const plan::StepPlan& plan, const std::vector<std::int64_t>& lengths,
              const plan::CostModel& costs)
      : plan_(plan), lengths_(lengths), costs_(costs) {}

  std::string draw() const {
    std::string svg = open_svg(kWidth, kHeight, kLeft, "One step: who computes what, and when");
    svg += legend();
    svg += axes();
    double start = 0;
    for (const plan::MicroBatch& micro_batch : plan_.micro_batches) {
      svg += draw(micro_batch, start);
      start += micro_batch.seconds;
    }
    return svg + "</svg>\n";
  }

 private:
  double x(double seconds) const {
    return kLeft + (plan_.seconds > 0 ? seconds / plan_.seconds : 0) * (kRight - kLeft);
  }
  double y(int rank) const { return kTop + kPlotHeight * rank / costs_.ranks; }

  std::string legend() const {
    std::set<int> degrees;
    for (const plan::MicroBatch& micro_batch : plan_.micro_batches) {
      for (const plan::Group& group : micro_batch.groups) degrees.insert(group.degree);
    }
    std::string svg =
        text_at(kLeft, 62, "",
                fmt::format("{} sequences, {} micro-batches, {:.3f} s. Groups of", lengths_.size(),
                            plan_.micro_batches.size(), plan_.seconds));
    double left = kLeft + 360;
    for (const int degree : degrees) {
      svg += box(left, 51, 13, 13, colour_of(degree), "");
      svg += text_at(left + 18, 62, "", fmt::format("{}", degree));
      left += 58;
    }
    svg += box(left, 51, 13, 13, kIdle, "");
    return svg + text_at(left + 18, 62, "", "idle");
  }

  std::string axes() const {
    std::string svg;
    const auto seconds = nice_ticks(0, plan_.seconds, 10, 0);
    for (const double tick : seconds) {
      svg += line_at(x(tick), kBottom, x(tick), kBottom + 5, "#8a929c");
      svg += text_at(x(tick), kBottom + 20, "text-anchor=\"middle\"",
                     tick_text(tick, seconds.size() > 1 ? seconds[1] - seconds[0] : 1));
    }
    svg += text_at((kLeft + kRight) / 2, kBottom + 44, "text-anchor=\"middle\"", "seconds");
    const int step = std::max(1, costs_.ranks / 8);
    for (int rank = 0; rank < costs_.ranks; rank += step) {
      svg += text_at(kLeft - 9, (y(rank) + y(rank + 1)) / 2 + 4, "text-anchor=\"end\"",
                     fmt::format("{}", rank));
    }
    return svg + text_at(kLeft - 9, kTop - 8, "text-anchor=\"end\"", "rank");
  }

  std::string draw(const plan::MicroBatch& micro_batch, double start) const {
    std::string svg =
        box(x(start), kTop, x(start + micro_batch.seconds) - x(start), kPlotHeight, kIdle, "Idle");
    for (const plan::Group& group : micro_batch.groups) svg += draw(group, start);
    // Micro-batches follow one another: all ranks wait for the slowest group.
    return svg + line_at(x(start + micro_batch.seconds), kTop - 6, x(start + micro_batch.seconds),
                         kBottom, "#1c2229");
  }

  std::string draw(const plan::Group& group, double start) const {
    const plan::GroupKind& kind = costs_.kinds[static_cast<std::size_t>(group.kind)];
    double seconds = costs_.micro_batch_seconds + kind.fixed_seconds;
    std::int64_t tokens = 0;
    std::int64_t longest = 0;
    for (const std::int32_t sequence : group.sequences) {
      const std::int64_t length = lengths_[static_cast<std::size_t>(sequence)];
      seconds += kind.seconds(length);
      tokens += length;
      longest = std::max(longest, length);
    }
    const double left = x(start);
    const double top = y(group.first_rank);
    const double width = x(start + seconds) - left;
    const double height = y(group.first_rank + group.degree) - top;
    const std::string what = fmt::format(
        "Ranks {} to {}{}{}: {} sequences, {} tokens, the longest {}, {:.3f} s", group.first_rank,
        group.first_rank + group.degree - 1, kind.level.empty() ? "" : ", ", kind.level,
        group.sequences.size(), tokens, longest, seconds);
    return box(left, top, width, height, colour_of(group.degree), what) +
           label(group, tokens, left, top, width, height);
  }

  /// As much of what is in the group as there is room for.
  static std::string label(const plan::Group& group, std::int64_t tokens, double left, double top,
                           double width, double height) {
    const std::string length = tokens >= 10'000
                                   ? fmt::format("{:.0f}k", static_cast<double>(tokens) / 1e3)
                                   : fmt::format("{:.1f}k", static_cast<double>(tokens) / 1e3);
    const std::array<std::string, 3> texts = {
        fmt::format("{} sequence{}, {} tokens", group.sequences.size(),
                    group.sequences.size() == 1 ? "" : "s", length),
        fmt::format("{} / {}", group.sequences.size(), length),
        fmt::format("{}", group.sequences.size())};
    if (height < kLineHeight) return "";
    for (const std::string& text : texts) {
      if (kCharacterWidth * static_cast<double>(text.size()) + 8 > width) continue;
      return text_at(left + width / 2, top + height / 2 + 4,
                     "text-anchor=\"middle\" font-size=\"12\" fill=\"#1c2229\"", text);
    }
    return "";
  }

  static std::string box(double left, double top, double width, double height, const char* colour,
                         const std::string& what) {
    return fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\" "
        "stroke=\"#ffffff\" stroke-width=\"0.6\"><title>{}</title></rect>\n",
        left, top, width, height, colour, what);
  }

  static constexpr const char* kIdle = "#e9ecef";

  const plan::StepPlan& plan_;
  const std::vector<std::int64_t>& lengths_;
  const plan::CostModel& costs_;
};

}  // namespace

std::string step_picture(const plan::StepPlan& plan, const std::vector<std::int64_t>& lengths,
                         const plan::CostModel& costs) {
  return StepPicture(plan, lengths, costs).draw();
}

}  // namespace longspan::train
