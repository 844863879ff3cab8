#pragma once

#include <cstdlib>
#include <filesystem>

namespace longspan::test {

/// The folder `tests`, whose files tests read: of the source tree that was compiled, or, where the
/// programs are carried elsewhere (scripts/bundle), of the environment's LONGSPAN_TEST_DATA.
inline std::filesystem::path data_folder() {
  const char* elsewhere = std::getenv("LONGSPAN_TEST_DATA");
  return elsewhere != nullptr ? elsewhere : LONGSPAN_TEST_DATA;
}

}  // namespace longspan::test
