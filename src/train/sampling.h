#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/tokenizer.h"
#include "longspan/train/generate.h"

namespace longspan::train {

/// One token by temperature, the likeliest `top_k` and the nucleus (Holtzman et al. 2020),
/// deterministic in `draw` [0, 1); equal logits keep their order. Throws InputError for logits that
/// are not finite, which a damaged model gives.
data::TokenId sample_token(const std::vector<float>& logits, const SamplingOptions& options,
                           double draw);

/// Makes every token that `ids` hold less likely by a factor (Keskar et al. 2019): positive logits
/// are divided by the penalty, negative ones multiplied; 1 changes nothing.
void penalise_repetition(std::vector<float>& logits, const std::vector<data::TokenId>& ids,
                         double penalty);

}  // namespace longspan::train
