#pragma once

#include <filesystem>
#include <string>

#include "longspan/train/job.h"
#include "train/report.h"
#include "train/training_step.h"

namespace longspan::train {

/// The directory of the step that a run in `store` goes on from, by checkpoint.resume; empty: from
/// the beginning. A run that has checkpoints of its own goes on from the newest intact one, also
/// where it once began from a path: the same command is started again and again. What is passed
/// over is told. Throws InputError where that would not be what was asked for, and
/// DamagedCheckpointError.
std::filesystem::path starting_point(const CommonJob& job, const std::filesystem::path& store,
                                     Report& report);

/// Fills a job's model with the weights that it begins with, of model.from; of a job with an
/// adapter that is the base, and the adapter (adapter.from) begins with it where `is_new`. Called
/// by every rank. Returns what was read. Throws InputError.
std::string load_files(const Job& job, TrainingStep& step, backend::Backend& backend,
                       const comm::Communicator& world, bool is_new);
/// Throws InputError where a checkpoint is of an adapter of another rank or scale than the job's,
/// or of none where the job has one, or the other way round.
void check_adapter_of(const std::filesystem::path& step_directory, const Job& job);
/// Whether the headers of these files are of the job's model. Throws InputError.
void check_files_of(const Job& job);

}  // namespace longspan::train
