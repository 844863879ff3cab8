#pragma once

#include <string>

#include "longspan/data/token_file.h"

namespace longspan::train {

struct InspectOptions {
  bool tensors = false;  ///< list them, too
  bool json = false;     ///< one JSON object instead of text
  int columns = 100;     ///< that text may take
  // Of files of tokens alone; an InputError for anything else.
  data::FlatTokens flat;    ///< what such a file does not say itself
  std::string picture;      ///< where an SVG picture of the documents' lengths goes; empty: none
  std::string lengths_out;  ///< where the lengths go, one a line; empty: nowhere
};

/// What a path holds: a model directory, a checkpoint, a run's directory, a safetensors file, or a
/// file of tokens, with how long its documents are. Reads headers, not weights. What is wrong with
/// a model that can be read at all is told as its `problem`. Throws InputError for anything else,
/// or a file that is damaged.
std::string inspect(const std::string& path, const InspectOptions& options);

}  // namespace longspan::train
