#include "longspan/plan/cost_fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>

#include "longspan/base/error.h"

namespace longspan::plan {
namespace {

constexpr std::size_t kUnknowns = 3;
using Vector = std::array<double, kUnknowns>;
using Matrix = std::array<Vector, kUnknowns>;

/// Solves the rows and columns that `chosen` has bits of; the others' unknowns are 0. Nothing when
/// they do not decide it, or an unknown would be below 0.
std::optional<Vector> solve(const Matrix& matrix, const Vector& right, unsigned chosen) {
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < kUnknowns; ++i) {
    if ((chosen >> i & 1U) != 0) at.push_back(i);
  }
  const std::size_t size = at.size();
  Matrix a{};
  Vector b{};
  for (std::size_t i = 0; i < size; ++i) {
    b[i] = right[at[i]];
    for (std::size_t j = 0; j < size; ++j) a[i][j] = matrix[at[i]][at[j]];
  }
  constexpr double kSingular = 1e-12;  // columns are scaled to be of about 1
  for (std::size_t pivot = 0; pivot < size; ++pivot) {
    if (a[pivot][pivot] <= kSingular) return std::nullopt;
    for (std::size_t i = pivot + 1; i < size; ++i) {
      const double factor = a[i][pivot] / a[pivot][pivot];
      for (std::size_t j = pivot; j < size; ++j) a[i][j] -= factor * a[pivot][j];
      b[i] -= factor * b[pivot];
    }
  }
  Vector result{};
  for (std::size_t i = size; i-- > 0;) {
    for (std::size_t j = i + 1; j < size; ++j) b[i] -= a[i][j] * result[at[j]];
    result[at[i]] = b[i] / a[i][i];
    if (result[at[i]] < 0) return std::nullopt;
  }
  return result;
}

/// What a point has of each unknown, as a part of its seconds.
Vector row_of(const CostPoint& point, const Vector& scale) {
  return {scale[0] / point.seconds, scale[1] * point.tokens / point.seconds,
          scale[2] * point.squares / point.seconds};
}

double squared_errors(const std::vector<CostPoint>& points, const Vector& scale,
                      const Vector& unknowns) {
  double sum = 0;
  for (const CostPoint& point : points) {
    const Vector row = row_of(point, scale);
    double error = -1;
    for (std::size_t i = 0; i < kUnknowns; ++i) error += row[i] * unknowns[i];
    sum += error * error;
  }
  return sum;
}

/// Makes the columns of the system about as large as each other.
Vector scale_of(const std::vector<CostPoint>& points) {
  Vector largest{};
  for (const CostPoint& point : points) {
    const Vector row = row_of(point, {1, 1, 1});
    for (std::size_t i = 0; i < kUnknowns; ++i) largest[i] = std::max(largest[i], row[i]);
  }
  Vector scale{};
  for (std::size_t i = 0; i < kUnknowns; ++i) scale[i] = 1 / largest[i];
  return scale;
}

void check(const std::vector<CostPoint>& points) {
  if (points.empty()) throw base::InternalError("fit_costs: there is no point");
  for (const CostPoint& point : points) {
    const bool is_legal = std::isfinite(point.seconds) && point.seconds > 0 && point.tokens > 0 &&
                          point.squares >= point.tokens;
    if (!is_legal) throw base::InternalError("fit_costs: a point without tokens or seconds");
  }
}

}  // namespace

CostFit fit_costs(const std::vector<CostPoint>& points) {
  check(points);
  const Vector scale = scale_of(points);
  Matrix matrix{};
  Vector right{};
  for (const CostPoint& point : points) {
    const Vector row = row_of(point, scale);
    for (std::size_t i = 0; i < kUnknowns; ++i) {
      right[i] += row[i];
      for (std::size_t j = 0; j < kUnknowns; ++j) matrix[i][j] += row[i] * row[j];
    }
  }
  // Few enough to try which unknowns are above 0. Bits: fixed 1, per token 2, per token² 4.
  Vector best{};
  double least = HUGE_VAL;
  for (const unsigned chosen : {2U, 4U, 6U, 3U, 5U, 7U, 1U}) {
    const auto unknowns = solve(matrix, right, chosen);
    if (!unknowns) continue;
    const double errors = squared_errors(points, scale, *unknowns);
    constexpr double kBetter = 1e-9;  // less is rounding
    if (errors < least - kBetter * static_cast<double>(points.size())) {
      least = errors;
      best = *unknowns;
    }
  }
  return {best[0] * scale[0], best[1] * scale[1], best[2] * scale[2]};
}

}  // namespace longspan::plan
