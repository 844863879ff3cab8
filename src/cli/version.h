#pragma once

#include <string>

namespace longspan::cli {

/// The program's version, then a line for each library and backend.
std::string version_text();

}  // namespace longspan::cli
