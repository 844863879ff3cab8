#pragma once

#include <optional>
#include <string>

#include "data/hf/json_node.h"

namespace longspan::data::hf {

/// The contents of the tokens that a document begins and ends with, as far as a file says.
struct DocumentMarks {
  std::optional<std::string> bos;
  std::optional<std::string> eos;
};

/// "bos_token" and "eos_token" of tokenizer_config.json or special_tokens_map.json: a string or an
/// added token.
DocumentMarks read_configured_marks(const JsonNode& config);

/// What the "post_processor" of a tokenizer.json puts around a text: TemplateProcessing,
/// RobertaProcessing, BertProcessing, ByteLevel, and Sequence of them. Throws InputError naming
/// another.
DocumentMarks read_post_processor(const JsonNode& node);

}  // namespace longspan::data::hf
