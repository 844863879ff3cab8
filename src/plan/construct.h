#pragma once

#include <optional>

#include "plan/packing.h"
#include "plan/patterns.h"
#include "plan/prices.h"

namespace longspan::plan {

/// Packs all sequences into groups of at most `seconds`: first those groups of the answer that it
/// has at least `whole` of, then one after another, each around the longest sequence left, of the
/// kind and with the company that are worth the most for its ranks. Nothing: the ranks ran out.
std::optional<Packing> construct(const Problem& problem, double seconds,
                                 const PatternProgram& program,
                                 const PatternProgram::Answer& answer, double whole);

/// The same without an answer.
std::optional<Packing> construct(const Problem& problem, double seconds, const Prices& prices);

}  // namespace longspan::plan
