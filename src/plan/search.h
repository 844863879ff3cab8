#pragma once

#include <cstdint>

#include "plan/packing.h"
#include "plan/prices.h"

namespace longspan::plan {

struct SearchResult {
  bool is_complete = false;  ///< nothing is faster than the packing
  bool is_better = false;    ///< the packing has been replaced
};

/// Branch and bound for something faster than `packing`: the longest sequence left joins an open
/// group or opens one of any kind, and what is left must be worth no more than the ranks that are
/// free and what open groups may still take, at `prices` that are a proof for packing.seconds. Ends
/// after `node_limit` placements.
SearchResult search(const Problem& problem, const Prices& prices, std::int64_t node_limit,
                    Packing& packing);

}  // namespace longspan::plan
