#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "longspan/checkpoint/safetensors.h"

namespace longspan::checkpoint {

/// The file that makes a directory a checkpoint.
inline constexpr const char* kManifestName = "manifest.json";

/// A file of a checkpoint that is given as text (config.json, trainer.json) or made by a callback
/// into the temporary directory (tokenizer files).
struct TextFile {
  std::string name;
  std::string text;
};

/// Everything one checkpoint holds. A list of tensors that is empty makes no file.
struct Contents {
  std::vector<TensorSource> weights;  ///< in `weights_name`, Hugging Face's (or PEFT's) names
  std::string weights_name = "model.safetensors";
  std::vector<TensorSource> optimizer;  ///< optimizer.safetensors
  std::vector<TextFile> texts;          ///< config.json, trainer.json, …
  std::function<void(const std::filesystem::path& directory)> write_more;  ///< may be empty
};

/// A committed step that does not hold what its manifest says.
struct DamagedStep {
  std::int64_t step = 0;
  std::string reason;  ///< the message of verify
};

/// The checkpoints of one run: `directory`/step-00000100/ and the file `directory`/latest.
///
/// Commit protocol: everything is written to `directory`/.tmp-step-…, each file is fsynced,
/// manifest.json (sizes and xxh3 of every file) is written and fsynced last, the directory is
/// fsynced and renamed, the parent fsynced; then `latest` (a text file with the step's directory
/// name) is replaced by rename. A step without a manifest does not exist. Killed at any moment,
/// the directory holds every checkpoint that it held before, or one more. Only one process writes.
///
/// A step that exists already is swapped with the new one in a single rename where the file system
/// can; elsewhere the old one waits as .old-step-… and still counts until the new one is there.
/// A checkpoint to be deleted is renamed to .tmp-… first, so that half of one never looks whole.
class Store {
 public:
  explicit Store(std::filesystem::path directory);

  /// Writes and commits a step after removing what writers that died left behind; then removes the
  /// committed steps before it beyond the `keep_last` newest, itself counted (0: all are kept).
  /// Later steps, left by a run that went back to an earlier one, stay. Saving a step that exists
  /// already replaces it. Returns the directory. A failure (disk full, no permission) throws Error
  /// with path and reason; the temporary directory is gone then and earlier checkpoints are intact.
  std::filesystem::path save(std::int64_t step, const Contents& contents, std::int64_t keep_last);

  /// Committed steps (their manifest is there), ascending. Does not read contents.
  std::vector<std::int64_t> steps() const;
  std::filesystem::path step_directory(std::int64_t step) const;
  /// The newest step that verifies, for resuming; nullopt when none is committed. Damaged newer
  /// ones are added to `damaged`, newest first. Throws DamagedCheckpointError when there are
  /// committed steps and none is intact. Reads every byte of the steps it looks at.
  std::optional<std::int64_t> latest_intact(std::vector<DamagedStep>& damaged) const;
  /// Bytes that a checkpoint of these contents takes, without what `write_more` makes; for checks
  /// before a run.
  static std::uint64_t bytes_of(const Contents& contents);

 private:
  std::filesystem::path directory_;
};

/// Checks every file of a committed checkpoint against its manifest, and the manifest against its
/// own hash. Throws DamagedCheckpointError naming the file, what was expected and found, or a
/// missing or malformed manifest. Files that the manifest does not name are ignored.
void verify(const std::filesystem::path& step_directory);

}  // namespace longspan::checkpoint
