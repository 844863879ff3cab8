#pragma once

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/data/tokenizer.h"
#include "longspan/model/decoder.h"
#include "longspan/train/generate.h"

// Models for the commands that read them and train nothing: generate, evaluate.
namespace longspan::train {

/// Which model, and how it is run.
struct ModelChoice {
  std::string path;       ///< a run's, a checkpoint's or a model's directory
  std::string tokenizer;  ///< name or path; empty: the model's own
  std::string dtype;      ///< "fp32", "bf16", "fp64"; empty: that of the files
  std::string device = "cpu";
  std::string base = {};  ///< of an adapter: its base model's directory; empty: as it says itself
};

ModelChoice choice_of(const GenerateOptions& options);

/// A model with its weights and without gradients, on every rank whole.
class LoadedModel {
 public:
  /// Takes any directory that holds a model: a checkpoint's (of a step, or of a run, then its
  /// newest one), whose files are verified, or one in Hugging Face's layout, as `model.from` takes
  /// them; or an adapter's, ours or PEFT's, which comes with its base. Throws InputError and
  /// DamagedCheckpointError on all ranks alike. Called by every rank.
  LoadedModel(const ModelChoice& choice, comm::Communicator& world);

  const std::filesystem::path& directory() const { return directory_; }
  const model::ModelConfig& config() const { return decoder_->config(); }
  model::Decoder& decoder() { return *decoder_; }
  backend::Backend& backend() { return *backend_; }
  /// Null when the directory has none and none was named.
  const data::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// How messages call it.
  const std::string& tokenizer_name() const { return tokenizer_name_; }
  /// The tokenizer; throws InputError when there is none.
  const data::Tokenizer& needed_tokenizer() const;
  /// Tokens that end a text: the tokenizer's eos, and eos_token_id of config.json and of
  /// generation_config.json.
  const std::set<data::TokenId>& end_ids() const { return end_ids_; }
  /// What the user should know, such as that weights became another type.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  void read(const ModelChoice& choice, const comm::Communicator& world);
  void load_tokenizer(const std::string& name, const std::filesystem::path& directory,
                      const model::ModelConfig& config);
  base::DType choose_dtype(const std::string& asked, base::DType stored);

  std::filesystem::path directory_;
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::string tokenizer_name_;
  std::set<data::TokenId> end_ids_;
  std::vector<std::string> notes_;
};

}  // namespace longspan::train
