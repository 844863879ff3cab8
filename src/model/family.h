#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "longspan/model/model_config.h"
#include "model/composition.h"
#include "model/config_reader.h"

namespace longspan::model {

/// Whose weights the head has.
enum class Tying : std::uint8_t {
  kNo,      ///< its own, unless the config says tied
  kYes,     ///< the embedding's, unless the config says not tied
  kAlways,  ///< the embedding's
};

/// A family of models: all that is particular to it. Each lies in a file of its own in
/// model/families and is listed in model/families.cpp.
struct Family {
  std::string model_type;    ///< as in config.json
  std::string architecture;  ///< the class of transformers that its checkpoints are for
  std::string description;   ///< a line for users

  /// Which of the numbers that not all families have this one has, with the values that hold where
  /// they are not given.
  std::vector<std::pair<std::string, double>> numbers = {};
  std::int64_t max_position_embeddings = 0;  ///< where it is not given
  Tying tying = Tying::kNo;
  /// As many key-value heads as query heads, each of hidden_size / num_attention_heads.
  bool has_plain_heads = false;
  std::int64_t head_dim = 0;  ///< where it is not given; 0: hidden_size / num_attention_heads
  /// Whether layers may have a window, how many keys it has where it is not given (0: there is
  /// none), and which layers have none nevertheless, where that is not given: every so-many-th, the
  /// last of each such group (0: no layer).
  bool has_window = false;
  std::int64_t sliding_window = 0;
  std::int64_t full_every = 0;
  /// Soft caps where they are not given, 0: none; absent: the family cannot have one.
  std::optional<double> attn_logit_softcapping = std::nullopt;
  std::optional<double> final_logit_softcapping = std::nullopt;
  /// Members of ModelConfig that config.json calls something else, for messages about that file.
  std::vector<std::pair<std::string, std::string>> names_in_file = {};

  /// Before all names of its tensors, but not in all files; empty: none.
  std::string prefix_in_files = {};
  /// Ends of names of tensors that files may have beside the parameters: tables that the model's
  /// code makes itself.
  std::vector<std::string> ignored_tensors = {".rotary_emb.inv_freq"};

  /// Of a config that is resolved.
  Composition (*compose)(const ModelConfig& config) = nullptr;
  /// Takes the config out of a config.json, with transformers' defaults for what is not there. Says
  /// of every key that it is understood, harmless, or refused; those of all families
  /// (architectures, dtype, ids of tokens, ...) are known already.
  void (*read)(ConfigReader& reader, ModelConfig& config) = nullptr;
  /// Adds to a config.json all but model_type, architectures, ids of tokens and dtype.
  void (*write)(const ModelConfig& config, nlohmann::ordered_json& out) = nullptr;
};

/// All of them, the first one for jobs that name none.
const std::vector<Family>& families();
/// Null when there is none of this name.
const Family* find_family(const std::string& model_type);
/// Of a config that is resolved, so that there is one.
const Family& family_of(const ModelConfig& config);

}  // namespace longspan::model
