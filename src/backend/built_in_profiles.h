#pragma once

#include <span>
#include <string_view>

namespace longspan::backend {

/// A file of configs/devices as it was when the program was built.
struct BuiltInProfile {
  std::string_view name;
  std::string_view json;
};

std::span<const BuiltInProfile> built_in_profiles();

}  // namespace longspan::backend
