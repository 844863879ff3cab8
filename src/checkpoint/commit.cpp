#include "checkpoint/commit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "checkpoint/manifest.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::checkpoint {
namespace {

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kTemporaryPrefix = ".tmp-";
constexpr std::string_view kAsidePrefix = ".old-";

[[noreturn]] void raise(const char* operation, const std::filesystem::path& path) {
  throw base::InputError(
      fmt::format("cannot {} {}: {}", operation, path.string(), std::strerror(errno)));
}

void rename_directory(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) raise("rename", from);
}

void remove_tree(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) {
    throw base::InputError(fmt::format("cannot remove {}: {}", path.string(), error.message()));
  }
}

/// False where the file system has no such operation; nothing has happened then.
bool exchange(const std::filesystem::path& a, const std::filesystem::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
  raise("rename", a);
}

bool name_taken(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::vector<std::string> names_with_prefix(const std::filesystem::path& directory,
                                           std::string_view prefix) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (name.starts_with(prefix)) names.push_back(std::move(name));
  }
  if (error) {
    throw base::InputError(fmt::format("cannot list {}: {}", directory.string(), error.message()));
  }
  return names;
}

/// A writer died while it replaced a step: where the new one did not arrive, the old one returns.
void settle_replacement(const std::filesystem::path& aside, const std::filesystem::path& final) {
  if (is_committed(final) || !is_committed(aside)) {
    remove_step(aside);
    return;
  }
  if (name_taken(final)) remove_step(final);
  rename_directory(aside, final);
  base::sync_directory(final.parent_path());
}

}  // namespace

std::string step_name(std::int64_t step) { return fmt::format("{}{:08}", kStepPrefix, step); }

std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  std::int64_t step = -1;
  const char* const end = name.data() + name.size();
  const auto result = std::from_chars(name.data() + kStepPrefix.size(), end, step);
  if (result.ec != std::errc() || result.ptr != end || step < 0) return std::nullopt;
  return step_name(step) == name ? std::optional(step) : std::nullopt;
}

std::filesystem::path temporary_path(const std::filesystem::path& directory, std::int64_t step) {
  return directory / (std::string(kTemporaryPrefix) + step_name(step));
}

std::filesystem::path aside_path(const std::filesystem::path& directory, std::int64_t step) {
  return directory / (std::string(kAsidePrefix) + step_name(step));
}

bool is_committed(const std::filesystem::path& step_directory) {
  const std::filesystem::path path = step_directory / kManifestName;
  std::error_code error;
  const std::filesystem::file_type type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::none || type == std::filesystem::file_type::unknown) {
    // Not "absent": a run must not start over because its checkpoints cannot be looked at.
    throw base::InputError(fmt::format("cannot look at {}: {}", path.string(), error.message()));
  }
  return type == std::filesystem::file_type::regular;
}

std::vector<std::int64_t> committed_steps(const std::filesystem::path& directory) {
  std::vector<std::int64_t> found;
  for (std::string name : names_with_prefix(directory, "")) {
    const std::filesystem::path path = directory / name;
    if (name.starts_with(kAsidePrefix)) name.erase(0, kAsidePrefix.size());
    const std::optional<std::int64_t> step = step_of(name);
    if (step && is_committed(path)) found.push_back(*step);
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

std::filesystem::path find_step(const std::filesystem::path& directory, std::int64_t step) {
  const std::filesystem::path final = directory / step_name(step);
  const std::filesystem::path aside = aside_path(directory, step);
  return !is_committed(final) && is_committed(aside) ? aside : final;
}

void publish(const std::filesystem::path& fresh, const std::filesystem::path& final,
             const std::filesystem::path& aside) {
  if (!name_taken(final)) {
    rename_directory(fresh, final);
    base::sync_directory(final.parent_path());
  } else if (exchange(fresh, final)) {
    base::sync_directory(final.parent_path());
    remove_tree(fresh);
  } else {
    publish_by_moving_aside(fresh, final, aside);
  }
}

void publish_by_moving_aside(const std::filesystem::path& fresh, const std::filesystem::path& final,
                             const std::filesystem::path& aside) {
  rename_directory(final, aside);
  if (::rename(fresh.c_str(), final.c_str()) != 0) {
    const int reason = errno;
    rename_directory(aside, final);  // should this fail too, clear_leftovers does it later
    errno = reason;
    raise("rename", fresh);
  }
  base::sync_directory(final.parent_path());
  remove_step(aside);
}

void remove_step(const std::filesystem::path& step_directory) {
  const std::filesystem::path parent = step_directory.parent_path();
  const std::filesystem::path doomed =
      parent / fmt::format("{}removed-{}", kTemporaryPrefix, step_directory.filename().string());
  rename_directory(step_directory, doomed);
  base::sync_directory(parent);
  remove_tree(doomed);
}

void clear_leftovers(const std::filesystem::path& directory) {
  for (const std::string& name : names_with_prefix(directory, kTemporaryPrefix)) {
    remove_tree(directory / name);
  }
  for (const std::string& name : names_with_prefix(directory, kAsidePrefix)) {
    const std::string final = name.substr(kAsidePrefix.size());
    if (step_of(final)) settle_replacement(directory / name, directory / final);
  }
}

void sync_file(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) raise("open", path);
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (result != 0) raise("sync", path);
}

}  // namespace longspan::checkpoint
