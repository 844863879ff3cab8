#include "train/run_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"

namespace longspan::train {

RunDirectory::RunDirectory(std::filesystem::path path) : path_(std::move(path)) {
  base::make_directories(checkpoints());
  const auto file = path_ / ".lock";
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) {
    throw base::InputError(fmt::format("run.output_dir {} cannot be written: {}", path_.string(),
                                       std::strerror(errno)));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw base::InputError(
        fmt::format("run.output_dir {} is in use by another job; wait for it, or name another "
                    "directory",
                    path_.string()));
  }
}

RunDirectory::~RunDirectory() { ::close(lock_); }

std::filesystem::path find_checkpoint(const std::filesystem::path& path) {
  if (checkpoint::has_file(path, checkpoint::kManifestName)) return path;
  for (const auto& directory : {path / "checkpoints", path}) {
    const checkpoint::Store store(directory);
    const auto steps = store.steps();
    if (!steps.empty()) return store.step_directory(steps.back());
  }
  throw base::InputError(
      fmt::format("{} holds no checkpoint: expected the directory of a step, such as "
                  "runs/first/checkpoints/step-00000100, or a run directory with checkpoints/",
                  path.string()));
}

void RunDirectory::check_free_space(std::uint64_t bytes, std::int64_t checkpoints) const {
  std::error_code error;
  const auto space = std::filesystem::space(path_, error);
  const auto needed = static_cast<std::uint64_t>(checkpoints) * bytes;
  if (error || space.available >= needed) return;
  throw base::InputError(fmt::format(
      "run.output_dir {} has {} free, and there will be {} more checkpoint{} of {} at once: {}; "
      "make "
      "room, lower checkpoint.keep_last, or name another directory",
      path_.string(), base::format_bytes(space.available), checkpoints, checkpoints == 1 ? "" : "s",
      base::format_bytes(bytes), base::format_bytes(needed)));
}

}  // namespace longspan::train
