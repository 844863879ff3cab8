#pragma once

#include <filesystem>
#include <string>

#include "longspan/model/clip_config.h"

namespace longspan::train {

/// What a checkpoint's config.json says of a model of clips.
struct ClipFiles {
  model::ClipConfig config;
  std::string objective;  ///< it was trained for, in the job's words
  std::string dtype;      ///< of its weights, such as "float32"
};

/// config.json of a checkpoint.
std::string clip_config_json(const ClipFiles& files);

/// Whether a directory has the config.json of a model of clips.
bool holds_clip_model(const std::filesystem::path& directory);

/// Of a checkpoint's directory. Throws InputError, also for models of texts.
ClipFiles read_clip_files(const std::filesystem::path& directory);

}  // namespace longspan::train
