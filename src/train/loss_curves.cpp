#include "train/loss_curves.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::train {
namespace {

using Json = nlohmann::json;

constexpr double kLargestLoss = 1e30;  // a run that blew up; beyond it nothing can be drawn

void add_point(const Json& line, const char* key, Curve& curve) {
  const auto step = line.find("step");
  const auto loss = line.find(key);
  if (step == line.end() || !step->is_number() || loss == line.end() || !loss->is_number()) return;
  const CurvePoint point{step->get<double>(), loss->get<double>()};
  if (std::abs(point.loss) <= kLargestLoss) curve.push_back(point);
}

}  // namespace

LossCurves read_loss_curves(const std::filesystem::path& metrics) {
  const base::MappedFile file(metrics);
  std::string_view rest = file.text();
  LossCurves curves;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const Json line = base::try_parse_json(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!line.is_object()) continue;
    add_point(line, "loss", curves.training);
    add_point(line, "validation_loss", curves.validation);
  }
  return curves;
}

Curve smooth(const Curve& curve, std::size_t half_width) {
  std::vector<double> sums(curve.size() + 1, 0.0);
  for (std::size_t i = 0; i < curve.size(); ++i) sums[i + 1] = sums[i] + curve[i].loss;
  Curve smoothed = curve;
  for (std::size_t i = 0; i < curve.size(); ++i) {
    const std::size_t back = std::min(half_width, i);
    const std::size_t ahead = std::min(back, curve.size() - 1 - i);
    smoothed[i].loss =
        (sums[i + ahead + 1] - sums[i - back]) / static_cast<double>(back + ahead + 1);
  }
  return smoothed;
}

Curve thin_out(const Curve& curve, std::size_t limit) {
  if (curve.size() <= limit) return curve;
  const std::size_t stretches = limit / 2;
  Curve thinned;
  for (std::size_t i = 0; i < stretches; ++i) {
    const auto begin = curve.begin() + static_cast<std::ptrdiff_t>(i * curve.size() / stretches);
    const auto end =
        curve.begin() + static_cast<std::ptrdiff_t>((i + 1) * curve.size() / stretches);
    const auto [low, high] = std::minmax_element(
        begin, end, [](const CurvePoint& a, const CurvePoint& b) { return a.loss < b.loss; });
    thinned.push_back(*std::min(low, high));
    thinned.push_back(*std::max(low, high));
  }
  return thinned;
}

}  // namespace longspan::train
