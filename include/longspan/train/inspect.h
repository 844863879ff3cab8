#pragma once

#include <string>

namespace longspan::train {

struct InspectOptions {
  bool tensors = false;  ///< list them, too
  bool json = false;     ///< one JSON object instead of text
};

/// What a path holds: a model directory, a checkpoint, a run's directory, a safetensors file, or a
/// file of tokens. Reads headers, not weights. What is wrong with a model that can be read at all
/// is told as its `problem`. Throws InputError for anything else, or a file that is damaged.
std::string inspect(const std::string& path, const InspectOptions& options);

}  // namespace longspan::train
