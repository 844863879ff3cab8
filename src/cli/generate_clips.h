#pragma once

#include "cli/command.h"
#include "longspan/train/generate_clips.h"

namespace longspan::cli {

/// The options of `generate` that are of models of clips alone.
void add_clip_options(const Command& command, train::GenerateClipsOptions& options);

}  // namespace longspan::cli
