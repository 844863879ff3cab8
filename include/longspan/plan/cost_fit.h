#pragma once

#include <vector>

namespace longspan::plan {

/// What a micro-batch took of which a group ran sequences of s_1 … s_n tokens.
struct CostPoint {
  double tokens = 0;   ///< Σ s_k
  double squares = 0;  ///< Σ s_k²
  double seconds = 0;
};

/// Seconds = fixed + per_token Σ s_k + per_token_squared Σ s_k².
struct CostFit {
  double fixed = 0;
  double per_token = 0;
  double per_token_squared = 0;

  double seconds(double tokens, double squares) const {
    return fixed + per_token * tokens + per_token_squared * squares;
  }
};

/// Of all coefficients that are none below 0 those whose relative errors have the least sum of
/// squares: short and long passes count alike. Where several are as good, one that has fewer
/// coefficients above 0, the fixed one last. Throws InternalError when there is no point, or one
/// whose seconds or tokens are not above 0.
CostFit fit_costs(const std::vector<CostPoint>& points);

}  // namespace longspan::plan
