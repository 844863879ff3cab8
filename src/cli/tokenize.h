#pragma once

namespace CLI {
class App;
}

namespace longspan::cli {

/// Adds the subcommand `tokenize`: text to a token file, and the training of a tokenizer.
void add_tokenize_command(CLI::App& app);

}  // namespace longspan::cli
