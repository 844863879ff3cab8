#include "longspan/backend/versions.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cctype>
#include <string>
#include <vector>

namespace longspan::backend {
namespace {

TEST_CASE("library_versions names every library once, with a version unless it is not built in") {
  const std::vector<Component> components = library_versions();
  for (const std::string name : {"oneDNN", "OpenMP", "CUDA", "cuBLAS", "cuDNN", "NCCL"}) {
    CAPTURE(name);
    CHECK(std::count_if(components.begin(), components.end(),
                        [&](const Component& component) { return component.name == name; }) == 1);
  }
  for (const Component& component : components) {
    CAPTURE(component.name, component.version, component.detail);
    if (component.version.empty()) {
      CHECK(component.detail.empty());
      CHECK((component.name != "oneDNN" && component.name != "OpenMP"));
    } else {
      CHECK(std::isdigit(static_cast<unsigned char>(component.version[0])) != 0);
    }
  }
}

TEST_CASE("oneDNN's version is the one of its headers' major number") {
  const Component onednn = library_versions().front();
  REQUIRE(onednn.name == "oneDNN");
  CHECK(onednn.version.substr(0, 2) == "2.");
  CHECK_FALSE(onednn.detail.empty());
}

}  // namespace
}  // namespace longspan::backend
