#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "longspan/checkpoint/safetensors.h"
#include "longspan/checkpoint/store.h"

namespace longspan::checkpoint {

/// What makes a directory a checkpoint: its step, and size and hash of every file in it.
struct Manifest {
  std::int64_t step = 0;
  std::map<std::string, FileDigest> files;  ///< by path relative to the directory
};

/// manifest.json's text. Equal manifests give equal bytes, and the last field is a hash of all that
/// comes before it: a changed byte always shows.
std::string render_manifest(const Manifest& manifest);

/// Reads and checks `step_directory`/manifest.json. Throws DamagedCheckpointError.
Manifest read_manifest(const std::filesystem::path& step_directory);

/// Size and hash of a file, read in pieces. Throws InputError with the system's reason.
FileDigest digest_file(const std::filesystem::path& path);

}  // namespace longspan::checkpoint
