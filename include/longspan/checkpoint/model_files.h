#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longspan/checkpoint/safetensors.h"

namespace longspan::checkpoint {

inline constexpr const char* kWeightsName = "model.safetensors";
inline constexpr const char* kIndexName = "model.safetensors.index.json";
inline constexpr const char* kConfigName = "config.json";

/// The file `name` of a model directory: a plain name of a regular file whose contents lie in the
/// directory. A link that leads out of it is refused, because whoever packed the directory could
/// have any file of the user's read and handed on; but in a snapshot of Hugging Face's cache
/// (.../snapshots/REVISION) files are links to .../blobs, and those may be followed. Throws
/// InputError.
std::filesystem::path model_file(const std::filesystem::path& directory, const std::string& name);
/// Whether the directory has such a name, of whatever kind.
bool has_file(const std::filesystem::path& directory, const std::string& name);

/// The weights of a model directory as Hugging Face lays it out: model.safetensors, or
/// model.safetensors.index.json and the files it names. All headers are read and compared with the
/// index when it is opened: file names must be plain, every tensor in the one file that the index
/// says and in no other, and metadata.total_size (if there) the bytes of all tensors. A fault
/// throws InputError naming the file; so does a directory with pickled weights alone. Thread-safe.
class ModelFiles {
 public:
  explicit ModelFiles(std::filesystem::path directory);
  ~ModelFiles();

  const std::filesystem::path& directory() const { return directory_; }
  /// Of all files, by name.
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }
  /// The file that holds a tensor. Throws InputError when there is none.
  const SafetensorsFile& file_of(const std::string& tensor) const;
  /// Copies bytes [first, first + count) of a tensor's data, as SafetensorsFile::read.
  void read(const std::string& tensor, std::uint64_t first, std::uint64_t count, void* out) const;

 private:
  void open_index();
  void add(const std::string& name);

  std::filesystem::path directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::size_t> places_;  ///< by tensor, into `files_`
};

/// What a model wants of its files.
struct WantedTensors {
  std::vector<TensorInfo> tensors;   ///< names and shapes; the files have any float dtype
  std::string prefix;                ///< that all names of a file may be without; or empty
  std::vector<std::string> ignored;  ///< ends of names that hold nothing trained
  /// A head that may lie beside the embedding whose weights it has; empty: none may.
  std::string tied_head;
  std::string embedding;
};

/// Which tensor of the files each wanted one is: names by name. Throws InputError when a tensor is
/// missing, one is left over, or a shape or dtype is another, naming the first few.
std::map<std::string, std::string> match(const ModelFiles& files, const WantedTensors& wanted);

/// Throws InputError where the files hold a tied head that is not the embedding, as one that was
/// trained apart. Reads both.
void check_tied_head(const ModelFiles& files, const WantedTensors& wanted);

}  // namespace longspan::checkpoint
