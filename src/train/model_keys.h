#pragma once

#include <string>

#include "longspan/base/declarations.h"
#include "longspan/model/model_config.h"

namespace longspan::train {

/// The keys of the job file's section `model`; `from` is model.from.
void declare_model(std::string& from, model::ModelConfig& model, base::Declarations& keys);

}  // namespace longspan::train
