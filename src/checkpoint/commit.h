#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

/// Names and moves of checkpoint directories: every function leaves, at each moment, each committed
/// checkpoint whole under a name that find_step knows.
namespace longspan::checkpoint {

/// "step-00000100", at least eight digits.
std::string step_name(std::int64_t step);
/// The inverse; nullopt for any other name.
std::optional<std::int64_t> step_of(const std::string& name);
/// A fresh directory for a writer; swept by clear_leftovers.
std::filesystem::path temporary_path(const std::filesystem::path& directory, std::int64_t step);
/// Where an old checkpoint waits while it is replaced.
std::filesystem::path aside_path(const std::filesystem::path& directory, std::int64_t step);

/// Whether the directory holds a manifest. Throws InputError when that cannot be told.
bool is_committed(const std::filesystem::path& step_directory);
/// Committed steps, ascending; those waiting aside count. Throws InputError when `directory` cannot
/// be listed.
std::vector<std::int64_t> committed_steps(const std::filesystem::path& directory);
/// Where a committed step lies; its regular place when there is none.
std::filesystem::path find_step(const std::filesystem::path& directory, std::int64_t step);

/// Gives the finished directory `fresh` the name `final` and makes that durable; what had the name
/// is deleted. `aside` must not exist.
void publish(const std::filesystem::path& fresh, const std::filesystem::path& final,
             const std::filesystem::path& aside);
/// publish over an existing `final` for file systems that cannot exchange two names.
void publish_by_moving_aside(const std::filesystem::path& fresh, const std::filesystem::path& final,
                             const std::filesystem::path& aside);

/// Deletes a checkpoint that may be committed.
void remove_step(const std::filesystem::path& step_directory);

/// Removes temporary directories of writers that died, and finishes or undoes their replacements.
void clear_leftovers(const std::filesystem::path& directory);

/// fsync of a regular file.
void sync_file(const std::filesystem::path& path);

}  // namespace longspan::checkpoint
