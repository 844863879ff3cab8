#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "longspan/backend/tensor.h"

namespace longspan::backend {

/// What device memory is for. The names are the keys of `peak_bytes` in metrics.jsonl.
enum class MemoryTag : std::uint8_t {
  kWeights,        ///< parameters as the forward reads them
  kGradients,      ///< fp32 parameter gradients
  kOptimizer,      ///< moments and fp32 master weights
  kSaved,          ///< kept by a forward for its backward
  kWorkspace,      ///< lives within one operation or layer
  kCommunication,  ///< staging of collectives
};
inline constexpr std::size_t kMemoryTags = 6;

/// "weights", "gradients", "optimizer", "saved", "workspace", "communication".
const char* name_of(MemoryTag tag);

/// A place in a step, by the scopes that were entered: "backward, block 3, attention".
class Place {
 public:
  static constexpr int kMostDepth = 6;

  /// `name` must live forever (a literal); a negative number is not shown. Deeper scopes than
  /// kMostDepth are counted and not named.
  void enter(const char* name, Index number);
  void leave();

  int depth() const { return depth_; }
  /// The name of the outermost scope; "" outside of all.
  const char* outermost() const { return depth_ == 0 ? "" : names_[0]; }
  std::string to_string(bool with_numbers = true) const;

 private:
  std::array<const char*, kMostDepth> names_{};
  std::array<Index, kMostDepth> numbers_{};
  int depth_ = 0;
};

/// Live and peak bytes per tag and in total. Bytes are those asked for, rounded up to the
/// allocator's alignment. One per backend; not thread-safe (one thread issues the operations).
class Ledger {
 public:
  void add(MemoryTag tag, std::size_t bytes);
  void remove(MemoryTag tag, std::size_t bytes);

  /// Peaks start again from what is live.
  void reset_peaks();

  /// Where the program is, for messages and plans.
  void enter(const char* name, Index number) { place_.enter(name, number); }
  void leave() { place_.leave(); }
  const Place& place() const { return place_; }
  /// Where the total was at its peak first.
  const Place& peak_place() const { return peak_place_; }

  std::size_t live(MemoryTag tag) const { return live_[static_cast<std::size_t>(tag)]; }
  std::size_t peak(MemoryTag tag) const { return peak_[static_cast<std::size_t>(tag)]; }
  std::size_t live_total() const { return live_total_; }
  std::size_t peak_total() const { return peak_total_; }
  /// A table for an out-of-memory message or a log: tag, live, peak.
  std::string to_string() const;

 private:
  std::array<std::size_t, kMemoryTags> live_{};
  std::array<std::size_t, kMemoryTags> peak_{};
  std::size_t live_total_ = 0;
  std::size_t peak_total_ = 0;
  Place place_;
  Place peak_place_;
};

}  // namespace longspan::backend
