#pragma once

#include <cstdint>
#include <vector>

#include "longspan/model/model_config.h"

namespace longspan::model {

/// What a table of rotary positions is made of: see backend::Backend::rope_table.
struct Rope {
  std::vector<double> inverse_frequencies;
  double scale = 1.0;
};

/// Rotary positions (Su et al. 2021) of heads of `head_dim`, to the base `theta`: a pair's
/// frequency is theta^(-2i / head_dim), scaled as `scaling`, which must be resolved, says:
/// - linear (Chen et al. 2023): divided by the factor.
/// - llama3 (Llama 3.1): wavelengths beyond original / low_freq_factor are stretched by the factor,
///   those below original / high_freq_factor stay, and between the two it is blended.
/// - yarn (Peng et al. 2023): the same with a ramp over the pairs, from the one that turns
/// beta_fast
///   times within the original length to the one that turns beta_slow times, both rounded outwards;
///   and attention_factor scales the table.
Rope make_rope(std::int64_t head_dim, double theta, const RopeScaling& scaling);

}  // namespace longspan::model
