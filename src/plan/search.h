#pragma once

#include <cstdint>
#include <optional>

#include "plan/packing.h"
#include "plan/prices.h"

namespace longspan::plan {

struct SearchResult {
  /// The tree has no more: `packing`, or else the time that was to be beaten, is the best there is.
  bool is_complete = false;
  std::optional<Packing> packing;  ///< the fastest that was found
};

/// Branch and bound for packings of less than `seconds`: the longest sequence left joins an open
/// group or opens one of any kind, and what is left must be worth no more than the ranks that are
/// free and what open groups may still take, at `prices` that are a proof for `seconds`. Ends after
/// `node_limit` placements.
SearchResult search(const Problem& problem, const Prices& prices, std::int64_t node_limit,
                    double seconds);

}  // namespace longspan::plan
