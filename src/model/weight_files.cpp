#include "longspan/model/weight_files.h"

#include "model/family.h"

namespace longspan::model {

WeightFiles weight_files(const ModelConfig& config) {
  const Family& family = family_of(config);
  const Composition composition = composition_of(config);
  WeightFiles files;
  files.prefix = family.prefix_in_files;
  files.ignored = family.ignored_tensors;
  files.embedding = composition.embedding + ".weight";
  if (composition.is_tied()) files.tied_head = "lm_head.weight";
  return files;
}

}  // namespace longspan::model
