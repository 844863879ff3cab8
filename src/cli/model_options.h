#pragma once

#include <string>

#include "cli/command.h"

namespace longspan::cli {

/// The positional argument of commands that read any model.
void add_model_option(const Command& command, std::string& model);
/// --base, of commands that an adapter can be given to.
void add_base_option(const Command& command, std::string& base);

}  // namespace longspan::cli
