#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

namespace longspan::model {

/// Reads keys of a config.json by name, with messages that name file and key (all InputError). A
/// null counts as absent. Every key that is asked about is known; `finish` refuses the others.
class ConfigReader {
 public:
  /// `object` must outlive the reader.
  ConfigReader(const nlohmann::json& object, std::string file);

  bool has(const char* key);
  /// Within 32 bits, so that callers may multiply.
  std::int64_t integer(const char* key);
  std::int64_t integer(const char* key, std::int64_t otherwise);
  /// At least 1.
  std::int64_t size(const char* key, std::int64_t otherwise);
  double real(const char* key, double otherwise);
  /// Above 0.
  double positive(const char* key, double otherwise);
  bool boolean(const char* key, bool otherwise);
  std::string text(const char* key, const std::string& otherwise);
  /// A list of them; empty when it is not there.
  std::vector<std::string> texts(const char* key);
  /// A size, or a number above 0, of something that a model may be without: 0 where the value is
  /// null, `otherwise` where the key is not there.
  std::int64_t size_or_none(const char* key, std::int64_t otherwise);
  double positive_or_none(const char* key, double otherwise);
  /// Refuses a key whose value is present and is none of these, which this program can do.
  void require(const char* key, const std::vector<nlohmann::json>& legal);
  /// A member that is an object.
  ConfigReader object(const char* key);

  /// Keys that mean nothing to training, whatever their value.
  void ignore(const std::vector<const char*>& keys);
  /// Refuses what nobody asked about: it might change what the model computes.
  void finish() const;

  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  bool is_null(const char* key);
  std::string found(const char* key) const;

  const nlohmann::json& object_;
  std::string file_;
  std::set<std::string> known_;
};

}  // namespace longspan::model
