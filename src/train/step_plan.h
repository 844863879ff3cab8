#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/data/sampler.h"
#include "longspan/shard/mesh.h"

namespace longspan::train {

/// What a rank runs that has no row for a pass.
std::shared_ptr<const data::MicroBatch> empty_micro_batch();

/// Which rows of a step, or of a validation, this rank's sequence group runs. Every rank runs as
/// many passes, since a pass may need all of them.
struct StepPlan {
  static constexpr std::int64_t kNoRow = -1;

  /// Group g of n takes rows g, g + n, ...; where others have one more, its last is kNoRow.
  static StepPlan fixed(std::int64_t rows, const shard::Mesh& mesh);

  std::vector<std::int64_t> rows;

  /// The group's micro-batches: `read(row)` gives a row's.
  template <typename Read>
  std::vector<std::shared_ptr<const data::MicroBatch>> batches(const Read& read) const {
    std::vector<std::shared_ptr<const data::MicroBatch>> result;
    for (const std::int64_t row : rows) {
      result.push_back(row == kNoRow ? empty_micro_batch() : read(static_cast<std::size_t>(row)));
    }
    return result;
  }
};

}  // namespace longspan::train
