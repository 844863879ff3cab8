// Prompts of a file, continued into another.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/train/generate.h"
#include "train/continuation.h"
#include "train/loaded_model.h"
#include "train/prompt_file.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::InputError;

/// A file of lines that takes its name when it is complete; until then it is NAME.part, which has
/// the lines so far.
class NewFile {
 public:
  explicit NewFile(fs::path path) : path_(std::move(path)), part_(path_.string() + ".part") {
    std::error_code error;
    if (fs::symlink_status(path_, error).type() != fs::file_type::not_found) {
      throw InputError(fmt::format("{} is there already; name a new file", path_.string()));
    }
    writer_.emplace(part_);
  }

  void write_line(const std::string& line) {
    writer_->write(line + "\n");
    writer_->flush();
  }
  void publish() {
    writer_->commit();
    if (::rename(part_.c_str(), path_.c_str()) != 0) {
      throw InputError(fmt::format("cannot rename {} to {}: {}", part_.string(), path_.string(),
                                   std::strerror(errno)));
    }
    base::sync_directory(path_.has_parent_path() ? path_.parent_path() : ".");
  }

 private:
  fs::path path_;
  fs::path part_;
  std::optional<base::FileWriter> writer_;
};

std::string output_line(const FilePrompt& prompt, const std::vector<Continuation>& samples) {
  auto line = base::parse_plain_json(prompt.line);
  for (const Continuation& sample : samples) {
    line["completions"].push_back(
        {{"text", sample.text}, {"tokens", sample.tokens}, {"finish", name_of(sample.finish)}});
  }
  return base::json_text(line);
}

/// The prompts, all of which have room for what is to be added.
std::vector<FilePrompt> checked_prompts(const std::string& path, const GenerateOptions& options,
                                        const std::string& chat_template,
                                        const LoadedModel& model) {
  std::vector<FilePrompt> prompts = read_prompts(path, model.needed_tokenizer(), chat_template);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    tokens_to_add(options, model.config(), static_cast<std::int64_t>(prompts[i].ids.size()),
                  fmt::format("{}:{}: the prompt", path, i + 1));
  }
  return prompts;
}

}  // namespace

std::int64_t generate_batch(const GenerateOptions& options, const std::string& prompts_path,
                            const std::string& output, const std::string& chat_template,
                            comm::Communicator& world, const GenerateListener& listener) {
  LoadedModel model(choice_of(options), world);
  std::vector<FilePrompt> prompts;
  std::optional<NewFile> file;
  comm::run_agreed(world, [&] {
    prompts = checked_prompts(prompts_path, options, chat_template, model);
    if (world.rank() == 0) file.emplace(output);
  });
  if (world.rank() == 0) {
    for (const std::string& note : model.notes()) listener.note(note);
  }
  const auto complete = [&](const FilePrompt& prompt, std::size_t number) {
    std::set<data::TokenId> ends = model.end_ids();
    if (prompt.is_chat) {
      for (const data::TokenId id :
           make_chat_template(chat_template, model.needed_tokenizer()).end_ids()) {
        ends.insert(id);
      }
    }
    return continue_prompt(model, options, ends, prompt.ids, static_cast<std::int64_t>(number),
                           [](std::int64_t, const std::string&) {});
  };
  const auto ranks = static_cast<std::size_t>(world.size());
  for (std::size_t first = 0; first < prompts.size(); first += ranks) {
    const std::size_t mine = first + static_cast<std::size_t>(world.rank());
    std::string line;
    comm::run_agreed(world, [&] {
      if (mine >= prompts.size()) return;
      line = output_line(prompts[mine], complete(prompts[mine], mine));
    });
    const std::vector<std::string> lines = world.all_gather(line);
    comm::run_agreed(world, [&] {
      if (!file) return;
      const std::size_t count = std::min(ranks, prompts.size() - first);
      for (std::size_t i = 0; i < count; ++i) file->write_line(lines[i]);
    });
  }
  comm::run_agreed(world, [&] {
    if (file) file->publish();
  });
  return static_cast<std::int64_t>(prompts.size());
}

}  // namespace longspan::train
