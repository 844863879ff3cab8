#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "longspan/model/memory_policy.h"

namespace longspan::model {

/// What text_of gives, of a policy that is legal for this slot: the way back. Nothing, and why,
/// where it is none.
std::optional<nn::SaveParts> read_parts(std::string_view text, const SlotWords& slot,
                                        std::string& why_not);

}  // namespace longspan::model
