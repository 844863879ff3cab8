#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace longspan::model {
namespace {

constexpr double kTurn = 2.0 * std::numbers::pi;

/// Of 1 everything is stretched, of 0 nothing.
double stretched(double frequency, double factor, double share) {
  return share * frequency / factor + (1.0 - share) * frequency;
}

double llama3(double frequency, const RopeScaling& scaling) {
  const double turns =
      static_cast<double>(scaling.original_max_position_embeddings) * frequency / kTurn;
  const double kept =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return stretched(frequency, scaling.factor, 1.0 - std::clamp(kept, 0.0, 1.0));
}

/// The pair of dimensions that turns so many times within the original length, as a real number.
double pair_that_turns(double times, std::int64_t head_dim, double theta,
                       const RopeScaling& scaling) {
  const auto length = static_cast<double>(scaling.original_max_position_embeddings);
  return static_cast<double>(head_dim) * std::log(length / (times * kTurn)) /
         (2.0 * std::log(theta));
}

/// The ramp of YaRN.
class Ramp {
 public:
  Ramp(std::int64_t head_dim, double theta, const RopeScaling& scaling) {
    const auto last = static_cast<double>(head_dim - 1);
    low_ = std::max(0.0, std::floor(pair_that_turns(scaling.beta_fast, head_dim, theta, scaling)));
    high_ = std::min(last, std::ceil(pair_that_turns(scaling.beta_slow, head_dim, theta, scaling)));
    if (low_ == high_) high_ += 0.001;  // as transformers does: a step
  }
  double at(std::size_t pair) const {
    return std::clamp((static_cast<double>(pair) - low_) / (high_ - low_), 0.0, 1.0);
  }

 private:
  double low_;
  double high_;
};

}  // namespace

Rope make_rope(std::int64_t head_dim, double theta, const RopeScaling& scaling) {
  Rope rope;
  for (std::int64_t i = 0; i < head_dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(head_dim);
    rope.inverse_frequencies.push_back(std::pow(theta, -exponent));
  }
  if (scaling.rope_type == "linear") {
    for (double& frequency : rope.inverse_frequencies) frequency /= scaling.factor;
  } else if (scaling.rope_type == "llama3") {
    for (double& frequency : rope.inverse_frequencies) frequency = llama3(frequency, scaling);
  } else if (scaling.rope_type == "yarn") {
    const Ramp ramp(head_dim, theta, scaling);
    for (std::size_t pair = 0; pair < rope.inverse_frequencies.size(); ++pair) {
      double& frequency = rope.inverse_frequencies[pair];
      frequency = stretched(frequency, scaling.factor, ramp.at(pair));
    }
    rope.scale = scaling.attention_factor;
  }
  return rope;
}

}  // namespace longspan::model
