#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "longspan/plan/cost_model.h"

namespace longspan::plan {

/// A cost model as a JSON file has it (docs/formats.md): strictly, every key known, each kind
/// once, degrees powers of two that the ranks have room for, times finite and at least 0, each kind
/// with some time and room for a token. Throws InputError that says where and what is legal.
CostModel read_cost_file(const std::filesystem::path& file);
/// The same of text; `file` is for messages.
CostModel parse_cost_file(std::string_view text, const std::string& file);

/// Reading it gives the same model, to the last bit.
std::string to_json(const CostModel& costs);

}  // namespace longspan::plan
