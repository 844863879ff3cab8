#pragma once

namespace longspan::cli {

class Command;

/// Adds the subcommand `tokenize`: text to a token file, and the training of a tokenizer.
void add_tokenize_command(const Command& program);

}  // namespace longspan::cli
