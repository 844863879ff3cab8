#include "longspan/data/text_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "data/json_document.h"
#include "longspan/base/error.h"

namespace longspan::data {
namespace {

namespace fs = std::filesystem;

bool contains(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool holds_json_lines(const fs::path& file) {
  return file.extension() == ".jsonl" || file.extension() == ".ndjson";
}

bool is_hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

/// Extensions of what is surely not text, which would train a model on noise.
const std::vector<std::string>& foreign_extensions() {
  static const std::vector<std::string> kExtensions = {
      ".gz",  ".bz2", ".xz",     ".zst",   ".zip", ".7z",  ".tar",         ".tgz",
      ".pdf", ".bin", ".tokens", ".arrow", ".idx", ".npy", ".safetensors", ".pt"};
  return kExtensions;
}

}  // namespace

const std::vector<std::string>& default_text_extensions() {
  static const std::vector<std::string> kExtensions = {
      ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc", ".jsonl", ".ndjson"};
  return kExtensions;
}

TextDocument::TextDocument(DocumentKind kind, std::vector<ChatTurn> turns)
    : kind_(kind), turns_(std::move(turns)) {
  for (const ChatTurn& turn : turns_) {
    if (&turn != &turns_.front()) text_ += '\n';
    text_ += turn.content;
  }
}

std::size_t TextDocument::text_bytes() const {
  return turns_.empty() ? text().size() : text().size() - (turns_.size() - 1);
}

TextSource::TextSource(const std::vector<std::string>& inputs, TextOptions options)
    : options_(std::move(options)) {
  if (options_.extensions.empty()) options_.extensions = default_text_extensions();
  for (const std::string& input : inputs) {
    std::error_code error;
    const fs::file_status status = fs::status(input, error);
    if (!fs::exists(status)) {
      throw base::InputError(fmt::format("cannot read {}: {}", input, error.message()));
    }
    if (fs::is_directory(status)) {
      add_folder(input);
    } else {
      add_file(input);
    }
  }
}

TextSource::~TextSource() = default;

void TextSource::add_folder(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::path current = folder;
  // The default options do not follow links to folders, so loops cannot occur.
  fs::recursive_directory_iterator entry(folder, error);
  while (!error && entry != fs::recursive_directory_iterator()) {
    current = entry->path();
    if (is_hidden(current)) {
      entry.disable_recursion_pending();
    } else if (contains(options_.extensions, current.extension().string()) &&
               fs::is_regular_file(current, error)) {
      found.push_back(current);
    }
    if (!error) entry.increment(error);
  }
  if (error) {
    throw base::InputError(fmt::format("cannot read {} in the folder {}: {}", current.string(),
                                       folder.string(), error.message()));
  }
  if (found.empty()) {
    throw base::InputError(fmt::format("no text in the folder {}: looked for files ending in {}",
                                       folder.string(), fmt::join(options_.extensions, " ")));
  }
  std::sort(found.begin(), found.end());
  for (const fs::path& file : found) add_file(file);
}

void TextSource::add_file(const fs::path& file) {
  if (file.extension() == ".parquet") {
    throw base::InputError(fmt::format(
        "{} is a Parquet file, which this program does not read; make JSON lines of it: python3 -c "
        "\"import pandas; pandas.read_parquet('{}').to_json('{}', orient='records', lines=True)\"",
        file.string(), file.string(), fs::path(file).replace_extension(".jsonl").string()));
  }
  if (contains(foreign_extensions(), file.extension().string())) {
    throw base::InputError(fmt::format(
        "{} is not text by its name: unpack or convert it to plain text or JSON lines first",
        file.string()));
  }
  total_bytes_ += base::MappedFile(file).size();
  files_.push_back(file);
}

std::uint64_t TextSource::bytes_read() const { return finished_bytes_ + position_; }

bool TextSource::next(TextDocument& document) {
  for (;;) {
    if (lines_) {
      if (next_line(document)) return true;
      finished_bytes_ += lines_->size();
      position_ = 0;
      lines_.reset();
    }
    if (next_file_ == files_.size()) return false;
    auto file = std::make_shared<const base::MappedFile>(files_[next_file_++]);
    if (!holds_json_lines(file->path())) {
      finished_bytes_ += file->size();
      document = TextDocument(std::move(file));
      return true;
    }
    lines_ = std::move(file);
    line_ = 0;
  }
}

std::string TextSource::place() const {
  return fmt::format("{}:{}", lines_->path().string(), line_);
}

bool TextSource::next_line(TextDocument& document) {
  const std::string_view text = lines_->text();
  while (position_ < text.size()) {
    const std::size_t end = std::min(text.find('\n', position_), text.size());
    const std::string_view line = text.substr(position_, end - position_);
    position_ = std::min(end + 1, text.size());
    ++line_;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      document = json_document(line, options_);
    } catch (const base::InputError& error) {
      throw base::InputError(fmt::format("{}: {}", place(), error.what()));
    }
    document.set_place(place());
    return true;
  }
  return false;
}

}  // namespace longspan::data
