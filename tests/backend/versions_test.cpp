#include "longspan/backend/versions.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace longspan::backend {
namespace {

TEST_CASE(
    "library_versions names every library once, with a version or the word that it is not in") {
  const std::vector<Component> components = library_versions();
  for (const std::string name : {"oneDNN", "OpenMP", "CUDA", "cuBLAS", "cuDNN", "NCCL"}) {
    CAPTURE(name);
    CHECK(std::count_if(components.begin(), components.end(),
                        [&](const Component& component) { return component.name == name; }) == 1);
  }
  for (const Component& component : components) {
    CAPTURE(component.name, component.version, component.detail);
    const bool built_in = component.detail != "not built in";
    CHECK(built_in == !component.version.empty());
    CHECK((!built_in || std::isdigit(static_cast<unsigned char>(component.version[0])) != 0));
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
