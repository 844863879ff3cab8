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

void RunDirectory::check_free_space(std::uint64_t bytes) const {
  std::error_code error;
  const auto space = std::filesystem::space(path_, error);
  if (error || space.available >= bytes) return;
  throw base::InputError(fmt::format(
      "run.output_dir {} has {} free, and the checkpoints to be kept at once need {}; make room, "
      "lower checkpoint.keep_last, or name another directory",
      path_.string(), base::format_bytes(space.available), base::format_bytes(bytes)));
}

}  // namespace longspan::train
