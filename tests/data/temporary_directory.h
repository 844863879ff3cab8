#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "longspan/base/file.h"

namespace longspan::data {

/// A fresh directory that is removed with what is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "longspan-data-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  /// Writes a file and gives its path.
  std::string write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    base::FileWriter writer(path_ / name);
    writer.write(text);
    writer.flush();
    return file(name);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace longspan::data
