#pragma once

#include <optional>
#include <vector>

#include "plan/packing.h"
#include "plan/prices.h"

namespace longspan::plan {

/// Packs all sequences into groups of at most `seconds`, one group after another: each around the
/// longest sequence left, of the kind and with the company that are worth the most for its ranks.
/// Nothing: the ranks ran out.
std::optional<Packing> construct(const Problem& problem, double seconds, const Prices& prices);

}  // namespace longspan::plan
