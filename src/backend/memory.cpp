#include "longspan/backend/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::backend {

const char* name_of(MemoryTag tag) {
  switch (tag) {
    case MemoryTag::kWeights:
      return "weights";
    case MemoryTag::kGradients:
      return "gradients";
    case MemoryTag::kOptimizer:
      return "optimizer";
    case MemoryTag::kSaved:
      return "saved";
    case MemoryTag::kWorkspace:
      return "workspace";
    case MemoryTag::kCommunication:
      return "communication";
  }
  throw base::InternalError("name_of: unknown memory tag");
}

void Place::enter(const char* name, Index number) {
  if (depth_ < kMostDepth) {
    names_[static_cast<std::size_t>(depth_)] = name;
    numbers_[static_cast<std::size_t>(depth_)] = number;
  }
  ++depth_;
}

void Place::leave() {
  if (depth_ == 0) throw base::InternalError("Place: a scope is left that was not entered");
  --depth_;
}

std::string Place::to_string(bool with_numbers) const {
  std::string text;
  for (int i = 0; i < std::min(depth_, kMostDepth); ++i) {
    const auto at = static_cast<std::size_t>(i);
    text += fmt::format("{}{}", i == 0 ? "" : ", ", names_[at]);
    if (with_numbers && numbers_[at] >= 0) text += fmt::format(" {}", numbers_[at]);
  }
  return text;
}

void Ledger::add(MemoryTag tag, std::size_t bytes) {
  const auto index = static_cast<std::size_t>(tag);
  live_[index] += bytes;
  peak_[index] = std::max(peak_[index], live_[index]);
  live_total_ += bytes;
  if (live_total_ > peak_total_) {
    peak_total_ = live_total_;
    peak_place_ = place_;
  }
}

void Ledger::remove(MemoryTag tag, std::size_t bytes) {
  const auto index = static_cast<std::size_t>(tag);
  if (live_[index] < bytes) throw base::InternalError("Ledger: more is freed than is live");
  live_[index] -= bytes;
  live_total_ -= bytes;
}

void Ledger::reset_peaks() {
  peak_ = live_;
  peak_total_ = live_total_;
  peak_place_ = place_;
}

std::string Ledger::to_string() const {
  std::string table = fmt::format("{:<14} {:>12} {:>12}\n", "memory", "live", "peak");
  for (std::size_t index = 0; index < kMemoryTags; ++index) {
    const auto tag = static_cast<MemoryTag>(index);
    table += fmt::format("{:<14} {:>12} {:>12}\n", name_of(tag), base::format_bytes(live(tag)),
                         base::format_bytes(peak(tag)));
  }
  table += fmt::format("{:<14} {:>12} {:>12}", "total", base::format_bytes(live_total_),
                       base::format_bytes(peak_total_));
  return table;
}

}  // namespace longspan::backend
