#pragma once

#include <string>
#include <string_view>

namespace longspan::data {

/// The string under `field` of the JSON object in `line`. Throws InputError saying what is wrong,
/// without naming a place: not JSON, not an object, the field missing, repeated or not a string.
std::string json_text_field(std::string_view line, const std::string& field);

}  // namespace longspan::data
