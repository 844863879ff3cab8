#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::data {

/// Those members of the JSON object in `line` that have one of the names, as an object; what others
/// hold is not kept. Throws InputError saying what is wrong, without naming a place: not JSON, not
/// an object, a name that is there twice (outermost, or within a member that is kept), more than
/// base::kMaxJsonDepth brackets open in one that is kept.
nlohmann::json json_members(std::string_view line, const std::vector<std::string>& names);

/// "a string", "an array" and so on, for messages.
const char* json_kind(const nlohmann::json& value);

}  // namespace longspan::data
