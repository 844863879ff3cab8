#pragma once

#include <filesystem>
#include <string>

#include "longspan/train/job.h"
#include "train/report.h"

namespace longspan::train {

/// The directory of the step that a run in `store` goes on from, by checkpoint.resume; empty: from
/// the beginning. A run that has checkpoints of its own goes on from the newest intact one, also
/// where it once began from a path: the same command is started again and again. What is passed
/// over is told. Throws InputError where that would not be what was asked for, and
/// DamagedCheckpointError.
std::filesystem::path starting_point(const Job& job, const std::filesystem::path& store,
                                     Report& report);

}  // namespace longspan::train
