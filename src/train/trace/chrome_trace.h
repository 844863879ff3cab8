#pragma once

#include <string>
#include <vector>

#include "train/trace/recorder.h"

// Chrome's trace format, which chrome://tracing and ui.perfetto.dev read.
namespace longspan::train {

/// One rank's events as the inside of a list of JSON objects: times in microseconds, the rank as
/// the process, a row as a thread. What overlaps in a row of operations (collectives that are under
/// way at once) is dealt out to further rows of the same name.
std::string rank_trace(const std::vector<TraceEvent>& events, int rank);

/// A whole file of what ranks gave.
std::string chrome_trace(const std::vector<std::string>& ranks);

}  // namespace longspan::train
