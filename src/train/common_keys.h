#pragma once

#include <string>

#include "longspan/base/declarations.h"
#include "longspan/train/common_job.h"

// Keys that jobs of texts and of clips share: each is declared once, and which of them a kind of
// job has, and in what order, its own `declare` says.
namespace longspan::train {

/// The sections `run` and `schedule`.
void declare_run(CommonJob::Run& run, base::Declarations& keys);
void declare_schedule(CommonJob::Schedule& schedule, base::Declarations& keys);
/// The section `training` with its first key, and others of it: precision and when to validate;
/// when to give up.
void declare_steps(CommonJob::Training& training, base::Declarations& keys);
void declare_precision(CommonJob::Training& training, base::Declarations& keys);
void declare_skips(CommonJob::Training& training, base::Declarations& keys);
/// The section `memory` with its first key.
void declare_memory_limit(CommonJob::Memory& memory, base::Declarations& keys);
/// Of the section `parallel`: how ranks wait for each other, and what each keeps.
void declare_ranks(CommonJob::Parallel& parallel, base::Declarations& keys);
/// The sections `checkpoint` and `logging`; a run begins with `beginning` where no checkpoint is.
void declare_records(CommonJob& job, const std::string& beginning, base::Declarations& keys);

/// Throws InputError where the section `schedule` does not fit itself, or the run's steps.
void check_schedule(const CommonJob& job);

}  // namespace longspan::train
