#pragma once

#include <string_view>

#include "longspan/data/text_source.h"

namespace longspan::data {

/// The document in a line of a JSON-lines file: a text, a chat ("messages", or "conversations" as
/// ShareGPT has them) or a prompt with its completion. Throws InputError saying what is wrong,
/// without naming a place.
TextDocument json_document(std::string_view line, const TextOptions& options);

}  // namespace longspan::data
