#include "longspan/backend/versions.h"

#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <utility>

#include "backend/cuda_versions.h"

namespace longspan::backend {
namespace {

const char* name_of(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "SSE4.1";
    case dnnl::cpu_isa::avx:
      return "AVX";
    case dnnl::cpu_isa::avx2:
      return "AVX2";
    case dnnl::cpu_isa::avx2_vnni:
      return "AVX2 VNNI";
    case dnnl::cpu_isa::avx512_core:
      return "AVX-512";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "AVX-512 VNNI";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "AVX-512 BF16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "AMX";
    default:
      return "other instruction set";
  }
}

Component onednn_component() {
  const dnnl_version_t* version = dnnl::version();
  return {"oneDNN",
          std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
              std::to_string(version->patch),
          name_of(dnnl::get_effective_cpu_isa())};
}

// The standard's number is its date; the compilers that build this program implement one of these.
Component openmp_component() {
  constexpr int kDate = _OPENMP;
  std::string version = std::to_string(kDate);
  if (kDate == 201511) {
    version = "4.5";
  } else if (kDate == 201811) {
    version = "5.0";
  } else if (kDate == 202011) {
    version = "5.1";
  }
  return {"OpenMP", version, "up to " + std::to_string(omp_get_max_threads()) + " threads"};
}

}  // namespace

std::vector<Component> library_versions() {
  std::vector<Component> components = {onednn_component(), openmp_component()};
  for (Component& component : cuda_components()) {
    components.push_back(std::move(component));
  }
  return components;
}

std::vector<std::string> built_in_backends() {
  if (cuda_components().front().version.empty()) return {"cpu"};
  return {"cpu", "cuda"};
}

}  // namespace longspan::backend
