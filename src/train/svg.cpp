#include "train/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace longspan::train {
namespace {

constexpr std::size_t kMostTitleCharacters = 80;

}  // namespace

std::string open_svg(double width, double height, double left, std::string_view title) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
             "height=\"{1}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" "
             "font-size=\"13\" fill=\"#3a424c\">\n<rect width=\"{0}\" height=\"{1}\" "
             "fill=\"#ffffff\"/>\n",
             width, height) +
         text_at(left, 34, "font-size=\"18\" font-weight=\"bold\" fill=\"#1c2229\"", escape(title));
}

std::string escape(std::string_view text) {
  std::string escaped;
  std::size_t characters = 0;
  for (const char c : text) {
    const bool starts_character = (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
    if (starts_character && characters++ == kMostTitleCharacters) return escaped + "…";
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (c == '>') {
      escaped += "&gt;";
    } else {
      escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return escaped;
}

std::string text_at(double x, double y, const char* style, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, text);
}

std::string line_at(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2,
      y2, colour);
}

std::string tick_text(double value, double spacing) {
  if (value == 0 && spacing >= 1e3) return "0";
  if (std::abs(value) >= 1e9) return fmt::format("{:g}", value);
  if (spacing >= 1e6) return fmt::format("{:g}M", value / 1e6);
  if (spacing >= 1e3) return fmt::format("{:g}k", value / 1e3);
  const double decimals = std::max(0.0, -std::floor(std::log10(spacing) + 1e-9));
  return fmt::format("{:.{}f}", value, static_cast<int>(std::min(decimals, 12.0)));
}

std::vector<double> nice_ticks(double low, double high, int most, double smallest) {
  const double rough = std::max((high - low) / most, smallest);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double spacing = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) {
      spacing = factor * power;
      break;
    }
  }
  const double slack = 1e-9;
  const double first = std::ceil(low / spacing - slack);
  const double last = std::floor(high / spacing + slack);
  std::vector<double> ticks;
  for (double i = first; i <= last; ++i) ticks.push_back(i * spacing + 0.0);
  return ticks;
}

}  // namespace longspan::train
