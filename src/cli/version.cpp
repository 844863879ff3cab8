#include "cli/version.h"

#include <coin/Clp_C_Interface.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <xxhash.h>

#include <CLI/Version.hpp>
#include <nlohmann/json_fwd.hpp>

#include "longspan/backend/versions.h"
#include "longspan/comm/communicator.h"

namespace longspan::cli {

std::string version_text() {
  std::string text = fmt::format("longspan {}\nbackends: {}\n", LONGSPAN_VERSION,
                                 fmt::join(backend::built_in_backends(), ", "));
  for (const auto& component : backend::library_versions()) {
    text += fmt::format("{:<16} {}{}{}\n", component.name,
                        component.version.empty() ? "not built in" : component.version,
                        component.detail.empty() ? "" : "  ", component.detail);
  }
  text += fmt::format("{:<16} {}\n", "MPI", comm::library_version());
  text += fmt::format("{:<16} {}.{}.{}\n", "nlohmann/json", NLOHMANN_JSON_VERSION_MAJOR,
                      NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
  text += fmt::format("{:<16} {}.{}.{}\n", "fmt", FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
                      FMT_VERSION % 100);
  text += fmt::format("{:<16} {}\n", "CLI11", CLI11_VERSION);
  text += fmt::format("{:<16} {}\n", "SentencePiece", LONGSPAN_SENTENCEPIECE_VERSION);
  text += fmt::format("{:<16} {}.{}\n", "PCRE2", PCRE2_MAJOR, PCRE2_MINOR);
  text += fmt::format("{:<16} {}\n", "utf8proc", utf8proc_version());
  text += fmt::format("{:<16} {}\n", "CLP", Clp_Version());
  text += fmt::format("{:<16} {}.{}.{}", "xxHash", XXH_VERSION_MAJOR, XXH_VERSION_MINOR,
                      XXH_VERSION_RELEASE);
  return text;
}

}  // namespace longspan::cli
