#include "train/trace/chrome_trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include <utility>
#include "longspan/base/json.h"

namespace longspan::train {
namespace {

using nlohmann::ordered_json;

/// Rows of one name that a rank may have.
constexpr int kLanes = 100;

const char* name_of(Row row) {
  switch (row) {
    case Row::kCompute:
      return "compute";
    case Row::kCommunication:
      return "communication";
    case Row::kCopies:
      return "copies";
    case Row::kHost:
      return "host";
    case Row::kPlaces:
      return "places of the step";
  }
  return "";
}

/// Places stand on top: the rest lies within them.
int first_thread(Row row) {
  return 1 + (row == Row::kPlaces ? 0 : kLanes * (1 + static_cast<int>(row)));
}

/// Whole ones, so that an end is still the next one's beginning.
double nanoseconds(double seconds) { return std::round(1e9 * seconds); }

ordered_json metadata(const char* name, int rank, int thread, const char* key, ordered_json value) {
  return {{"name", name}, {"ph", "M"}, {"pid", rank}, {"tid", thread}, {"args", {{key, value}}}};
}

ordered_json arguments(const Details& details) {
  ordered_json result = ordered_json::object();
  if (details.has_tensor) {
    result["tensor"] =
        fmt::format("{} {}", base::name_of(details.dtype), details.shape.to_string());
  }
  if (details.bytes > 0) result["bytes"] = details.bytes;
  if (!details.group.empty()) {
    result["group"] = details.group;
    result["ranks"] = details.ranks;
  }
  return result;
}

std::string line_of(const TraceEvent& event, int rank, int thread) {
  const Details& details = event.details;
  const double begin = nanoseconds(event.begin);
  const ordered_json json = {
      {"name",
       details.number < 0 ? details.name : fmt::format("{} {}", details.name, details.number)},
      {"cat", name_of(event.row)},
      {"ph", "X"},
      {"ts", begin / 1e3},
      {"dur", (nanoseconds(event.end) - begin) / 1e3},
      {"pid", rank},
      {"tid", thread},
      {"args", arguments(details)}};
  return base::json_text(json);
}

/// The events of a row by their beginnings, what lies around others first.
std::vector<const TraceEvent*> events_of(const std::vector<TraceEvent>& events, Row row) {
  std::vector<const TraceEvent*> result;
  for (const TraceEvent& event : events) {
    if (event.row == row) result.push_back(&event);
  }
  std::stable_sort(result.begin(), result.end(), [](const TraceEvent* one, const TraceEvent* two) {
    return std::pair(one->begin, -one->end) < std::pair(two->begin, -two->end);
  });
  return result;
}

/// The first lane that is free at `begin`; what has no lane left shares the last.
std::size_t lane_for(std::vector<double>& ends, double begin) {
  const auto free =
      std::find_if(ends.begin(), ends.end(), [&](double end) { return end <= begin; });
  if (free != ends.end()) return static_cast<std::size_t>(free - ends.begin());
  if (ends.size() < kLanes) ends.push_back(0);
  return ends.size() - 1;
}

void add_row(std::vector<std::string>& lines, const std::vector<TraceEvent>& all, Row row,
             int rank) {
  std::vector<double> ends;  // of the lanes
  for (const TraceEvent* event : events_of(all, row)) {
    // Places lie within each other, which is what one thread may show.
    const std::size_t lane = row == Row::kPlaces ? 0 : lane_for(ends, event->begin);
    if (lane < ends.size()) ends[lane] = event->end;
    lines.push_back(line_of(*event, rank, first_thread(row) + static_cast<int>(lane)));
  }
  const std::size_t lanes = row == Row::kPlaces ? 1 : ends.size();
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    const int thread = first_thread(row) + static_cast<int>(lane);
    const std::string name =
        lane == 0 ? name_of(row) : fmt::format("{} {}", name_of(row), lane + 1);
    lines.push_back(base::json_text(metadata("thread_name", rank, thread, "name", name)));
    lines.push_back(
        base::json_text(metadata("thread_sort_index", rank, thread, "sort_index", thread)));
  }
}

}  // namespace

std::string rank_trace(const std::vector<TraceEvent>& events, int rank) {
  std::vector<std::string> lines;
  lines.push_back(
      base::json_text(metadata("process_name", rank, 0, "name", fmt::format("rank {}", rank))));
  lines.push_back(base::json_text(metadata("process_sort_index", rank, 0, "sort_index", rank)));
  for (const Row row : kRows) add_row(lines, events, row, rank);
  return fmt::format("{}", fmt::join(lines, ",\n"));
}

std::string chrome_trace(const std::vector<std::string>& ranks) {
  return fmt::format("{{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{}\n]}}\n",
                     fmt::join(ranks, ",\n"));
}

}  // namespace longspan::train
