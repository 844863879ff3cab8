#pragma once

#include <string>
#include <vector>

namespace longspan::backend {

/// A library that the backends stand on, for `longspan --version` and logs.
struct Component {
  std::string name;     ///< "oneDNN"
  std::string version;  ///< "2.6.3"; empty when it is not built in
  std::string detail;   ///< what it found here: instruction set, threads, GPUs; may be empty
};

/// The libraries of every backend, those left out of this build as well. Never fails: without a
/// driver or a GPU the detail of CUDA says so.
std::vector<Component> library_versions();

/// What run.device may name in this build: "cpu", and "cuda" where it has it.
std::vector<std::string> built_in_backends();

}  // namespace longspan::backend
