#include "longspan/plan/cost_fit.h"

#include <catch2/catch.hpp>

#include "longspan/base/error.h"

namespace longspan::plan {
namespace {

std::vector<CostPoint> points_of(const CostFit& truth) {
  std::vector<CostPoint> points;
  for (const double tokens : {512.0, 4096.0, 32768.0}) {
    for (const double parts : {1.0, 4.0, 32.0}) {
      const double squares = tokens * tokens / parts;
      points.push_back({tokens, squares, truth.seconds(tokens, squares)});
    }
  }
  return points;
}

void check_same(const CostFit& found, const CostFit& expected) {
  CHECK(found.fixed == Approx(expected.fixed).epsilon(1e-6));
  CHECK(found.per_token == Approx(expected.per_token).epsilon(1e-6));
  CHECK(found.per_token_squared == Approx(expected.per_token_squared).epsilon(1e-6));
}

TEST_CASE("What follows the law is found again, also where a coefficient is 0") {
  for (const double fixed : {0.0, 0.02}) {
    for (const double per_token : {0.0, 3e-6}) {
      for (const double squared : {0.0, 2e-10}) {
        if (fixed + per_token + squared == 0) continue;
        INFO(fixed << " " << per_token << " " << squared);
        const CostFit truth{fixed, per_token, squared};
        check_same(fit_costs(points_of(truth)), truth);
      }
    }
  }
}

TEST_CASE("No coefficient is below 0, and errors are relative") {
  // Less than proportional to the tokens: the slope would be below 0 without the bound.
  const std::vector<CostPoint> falling = {{100, 10000, 2.0}, {200, 40000, 1.0}};
  const CostFit fit = fit_costs(falling);
  CHECK(fit.fixed > 0);
  CHECK(fit.per_token == 0);
  CHECK(fit.per_token_squared == 0);
  // Relative errors of 1/2 and 1/4 from both sides at c = (1/2 + 1) / (1/4 + 1).
  CHECK(fit.fixed == Approx(1.2));
}

TEST_CASE("Small noise changes little") {
  const CostFit truth{0.01, 3e-6, 2e-10};
  auto points = points_of(truth);
  double sign = 1;
  for (CostPoint& point : points) {
    point.seconds *= 1 + 0.01 * sign;
    sign = -sign;
  }
  const CostFit fit = fit_costs(points);
  for (const CostPoint& point : points) {
    CHECK(fit.seconds(point.tokens, point.squares) == Approx(point.seconds).epsilon(0.03));
  }
}

TEST_CASE("One point is proportional to its tokens") {
  check_same(fit_costs({{100, 10000, 0.5}}), {0, 0.005, 0});
}

TEST_CASE("Points that are none are refused") {
  CHECK_THROWS_AS(fit_costs({}), base::InternalError);
  CHECK_THROWS_AS(fit_costs({{1, 1, 0}}), base::InternalError);
  CHECK_THROWS_AS(fit_costs({{0, 0, 1}}), base::InternalError);
}

}  // namespace
}  // namespace longspan::plan
