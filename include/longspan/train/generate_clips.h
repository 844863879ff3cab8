#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::train {

struct GenerateClipsOptions {
  std::string model;   ///< a run's directory (then its newest checkpoint), or a checkpoint's
  std::string output;  ///< FILE.gif: a picture that moves; FILE.npy: the numbers
  std::string device = "cpu";
  std::string shape;         ///< frames x height x width: "16x32x32"
  std::int64_t samples = 4;  ///< clips
  std::int64_t steps = 50;   ///< of Euler's method, of a model of rectified flow
  std::int64_t label = -1;   ///< the class of all clips; -1: all there are, in turn
  /// Whose first frames a model of next frames goes on with: "sprites", or .npy files, of which
  /// the last clips are taken.
  std::vector<std::string> start;
  std::int64_t given = 4;  ///< frames of these
  std::int64_t scale = 4;  ///< points of the picture a point of the clip
  std::uint64_t seed = 1;  ///< of noise, or of sprites

  bool operator==(const GenerateClipsOptions&) const = default;
};

/// Whether a directory holds a model of clips, by its config.json. What cannot be read is none:
/// whoever loads it says why.
bool is_clip_model(const std::string& directory);

/// Samples clips, or goes on with some, and writes them; of those that go on a picture has each
/// clip as it is on the left, and as the model has it on the right. Gives what was written in a
/// line, with PSNR where the truth is known. Throws InputError and DamagedCheckpointError.
std::string generate_clips(const GenerateClipsOptions& options);

}  // namespace longspan::train
