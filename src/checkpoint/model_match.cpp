// Whether the files of a model directory hold the tensors that its model has.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "longspan/base/error.h"
#include "longspan/checkpoint/convert.h"
#include "longspan/checkpoint/model_files.h"

namespace longspan::checkpoint {
namespace {

using base::InputError;

constexpr std::size_t kNamed = 5;  ///< in a message

/// "a, b, c and 4 more".
std::string first_few(const std::vector<std::string>& texts) {
  const std::size_t shown = std::min(texts.size(), kNamed);
  std::string text =
      fmt::format("{}", fmt::join(texts.begin(), texts.begin() + static_cast<long>(shown), ", "));
  if (texts.size() > shown) text += fmt::format(" and {} more", texts.size() - shown);
  return text;
}

std::string describe(const TensorInfo& tensor) {
  return fmt::format("{} [{}]", base::name_of(tensor.dtype), fmt::join(tensor.shape, ", "));
}

/// A tensor's name in files that are without the prefix.
std::string without_prefix(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

class Matcher {
 public:
  Matcher(const ModelFiles& files, const WantedTensors& wanted) : files_(files), wanted_(wanted) {
    // All names have the prefix, or none has.
    const auto has_prefix = [&](const auto& entry) {
      return entry.first.starts_with(wanted.prefix);
    };
    has_prefix_ = std::any_of(files.tensors().begin(), files.tensors().end(), has_prefix);
  }

  std::map<std::string, std::string> match() {
    for (const TensorInfo& tensor : wanted_.tensors) match(tensor);
    for (const auto& [name, info] : files_.tensors()) {
      if (!taken_.contains(name) && !is_ignored(name)) extra_.push_back(name);
    }
    refuse("are not there", missing_);
    refuse("are there, but the model has no such", extra_);
    refuse("are not what the model has", different_);
    return std::move(names_);
  }

  std::string in_files(const std::string& name) const {
    return has_prefix_ ? name : without_prefix(name, wanted_.prefix);
  }

 private:
  void match(const TensorInfo& tensor) {
    const std::string name = in_files(tensor.name);
    const auto found = files_.tensors().find(name);
    if (found == files_.tensors().end()) {
      missing_.push_back(name);
      return;
    }
    const TensorInfo& info = found->second;
    if (info.shape != tensor.shape || !is_float(info.dtype)) {
      different_.push_back(fmt::format("{} is {}, expected a float type [{}]", name, describe(info),
                                       fmt::join(tensor.shape, ", ")));
    }
    taken_.insert(name);
    names_.emplace(tensor.name, name);
  }

  bool is_ignored(const std::string& name) const {
    if (!wanted_.tied_head.empty() && name == wanted_.tied_head) return true;
    return std::any_of(wanted_.ignored.begin(), wanted_.ignored.end(),
                       [&](const std::string& end) { return name.ends_with(end); });
  }

  void refuse(const char* why, const std::vector<std::string>& which) const {
    if (which.empty()) return;
    throw InputError(fmt::format("{}: {} of the {} tensors of {} {}: {}",
                                 files_.directory().string(), which.size(), wanted_.tensors.size(),
                                 kConfigName, why, first_few(which)));
  }

  const ModelFiles& files_;
  const WantedTensors& wanted_;
  bool has_prefix_ = false;
  std::map<std::string, std::string> names_;
  std::set<std::string> taken_;
  std::vector<std::string> missing_;
  std::vector<std::string> extra_;
  std::vector<std::string> different_;
};

}  // namespace

std::map<std::string, std::string> match(const ModelFiles& files, const WantedTensors& wanted) {
  return Matcher(files, wanted).match();
}

void check_tied_head(const ModelFiles& files, const WantedTensors& wanted) {
  if (wanted.tied_head.empty() || !files.tensors().contains(wanted.tied_head)) return;
  const std::string embedding = Matcher(files, wanted).in_files(wanted.embedding);
  const TensorInfo& head = files.tensors().at(wanted.tied_head);
  const TensorInfo& rows = files.tensors().at(embedding);
  bool is_same = head.dtype == rows.dtype && head.shape == rows.shape;
  constexpr std::uint64_t kChunk = std::uint64_t{1} << 20U;
  std::vector<std::byte> one(kChunk);
  std::vector<std::byte> other(kChunk);
  const std::uint64_t bytes = is_same ? head.bytes() : 0;
  for (std::uint64_t at = 0; at < bytes && is_same; at += kChunk) {
    const std::uint64_t count = std::min(kChunk, bytes - at);
    files.read(wanted.tied_head, at, count, one.data());
    files.read(embedding, at, count, other.data());
    is_same = std::memcmp(one.data(), other.data(), count) == 0;
  }
  if (is_same) return;
  throw InputError(
      fmt::format("{}: {} is not {}, though {} says that they are tied (tie_word_embeddings); set "
                  "that to false "
                  "if the head was trained apart, or remove the tensor",
                  files.directory().string(), wanted.tied_head, embedding, kConfigName));
}

}  // namespace longspan::checkpoint
