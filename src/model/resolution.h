#pragma once

#include <string>
#include <utility>
#include <vector>

#include "model/family.h"

namespace longspan::model {

/// The value of one of the family's numbers where it is not given; null when it has no such number.
const double* default_of(const Family& family, const std::string& number);

/// Fills in what of a config was not given and checks what belongs together; see
/// ModelConfig::resolve. Messages begin with `prefix` and the key: "model." and "hidden_size" of a
/// job, "run/config.json: " and "n_embd" of a file, whose `names` are pairs of ours and theirs.
void resolve(ModelConfig& config, const Family& family, const std::string& prefix,
             const std::vector<std::pair<std::string, std::string>>& names);

}  // namespace longspan::model
