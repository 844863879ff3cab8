#pragma once

#include <cstdint>
#include <filesystem>

namespace longspan::train {

/// The directory of a run, held by one job at a time: a lock that the system takes back when the
/// process ends, however it ends.
class RunDirectory {
 public:
  /// Creates it where needed, checks that it can be written, and locks it. Throws InputError when
  /// another job holds it.
  explicit RunDirectory(std::filesystem::path path);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  /// Throws InputError where so many more checkpoints of `bytes` do not fit beside what is there.
  void check_free_space(std::uint64_t bytes, std::int64_t checkpoints) const;

 private:
  std::filesystem::path path_;
  int lock_ = -1;
};

/// The directory of the checkpoint that `path` names: a step's, or a run's (then of its newest
/// step). Throws InputError.
std::filesystem::path find_checkpoint(const std::filesystem::path& path);

}  // namespace longspan::train
