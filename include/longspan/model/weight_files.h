#pragma once

#include <string>
#include <vector>

#include "longspan/model/model_config.h"

namespace longspan::model {

/// How files of a model's weights may differ from its parameters' names.
struct WeightFiles {
  std::string prefix;                ///< of all names, which a file may be without; or empty
  std::vector<std::string> ignored;  ///< ends of names of tensors that are no parameters
  std::string embedding;             ///< the tensor of the embedding
  /// Of a tied head: a tensor that may lie beside the embedding and equals it; else empty.
  std::string tied_head;
};

/// Of the family of a resolved config.
WeightFiles weight_files(const ModelConfig& config);

}  // namespace longspan::model
