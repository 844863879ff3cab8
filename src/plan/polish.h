#pragma once

#include "plan/packing.h"

namespace longspan::plan {

/// Makes the slowest bin faster by moving one of its sequences into another, or by exchanging two,
/// as long as that helps.
void polish(const Problem& problem, Packing& packing);

}  // namespace longspan::plan
