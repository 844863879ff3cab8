#pragma once

#include <string>
#include <vector>

#include "longspan/train/job.h"
#include "train/parallel_layout.h"

namespace longspan::train {

/// A job that takes moments, and what was made smaller, key by key ("model.hidden_size 64 of
/// 4096").
struct Shrunk {
  Job job;
  std::vector<std::string> changes;
};

/// Few layers, narrow heads, short rows and few of them; heads, ranks, ways to share, to keep and
/// to chunk as they are, so that every one is met: budgets in bytes become three ranges.
Shrunk shrink(const Job& job, const ParallelLayout& layout);

/// The job as it is, but that all that it keeps waits exactly.
Shrunk whole(const Job& job);

/// The job as one rank runs it that shards, chunks and recomputes nothing.
Job plain(const Job& job);

}  // namespace longspan::train
