#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/base/file.h"
#include "longspan/data/chat.h"

namespace longspan::data {

/// What a document is.
enum class DocumentKind : std::uint8_t {
  kText,
  kChat,        ///< turns
  kCompletion,  ///< a prompt, and what is to follow it: a user's turn and an assistant's
};

/// One document. A view of a mapped file, which it keeps alive, or a text or turns of its own.
class TextDocument {
 public:
  TextDocument() = default;
  explicit TextDocument(std::shared_ptr<const base::MappedFile> file) : file_(std::move(file)) {}
  explicit TextDocument(std::string text) : text_(std::move(text)) {}
  TextDocument(DocumentKind kind, std::vector<ChatTurn> turns);

  DocumentKind kind() const { return kind_; }
  /// All of it; of turns the contents, a line between each and the next.
  std::string_view text() const { return file_ ? file_->text() : std::string_view(text_); }
  /// Of a chat or a completion.
  const std::vector<ChatTurn>& turns() const { return turns_; }
  /// Without what stands between turns.
  std::size_t text_bytes() const;
  /// "file:line", of JSON lines.
  const std::string& place() const { return place_; }
  void set_place(std::string place) { place_ = std::move(place); }

 private:
  DocumentKind kind_ = DocumentKind::kText;
  std::shared_ptr<const base::MappedFile> file_;
  std::string text_;
  std::vector<ChatTurn> turns_;
  std::string place_;
};

/// Which of a JSON line's members is the document, where more than one could be.
enum class LineContent : std::uint8_t { kAny, kText, kChat };

struct TextOptions {
  std::string text_field = "text";  ///< of the objects in JSON-lines files
  /// kAny: what is there alone; lines with more are refused. kText: the text field, whatever else
  /// there is. kChat: a chat or a completion, else the text.
  LineContent line_content = LineContent::kAny;
  /// Files taken from folders, with the dot; empty: `default_text_extensions()`.
  std::vector<std::string> extensions;
};

/// ".txt", ".md", ".jsonl" and others: what a folder is searched for.
const std::vector<std::string>& default_text_extensions();

/// Documents of files and folders, in the order named. A file ending in .jsonl or .ndjson gives
/// one document a line (a text, a chat or a prompt with its completion: docs/formats.md), any other
/// file is one document. A folder gives the files below it that
/// have one of the extensions, sorted by path; names that begin with a dot and links to folders
/// are passed over. Not thread-safe.
class TextSource {
 public:
  /// Lists all files. Throws InputError for a path that does not exist, a folder without text, or
  /// a file known not to be text by its name (.gz, .zst, .parquet, .tokens and the like).
  TextSource(const std::vector<std::string>& inputs, TextOptions options);
  ~TextSource();

  /// The next document, which may be empty; false at the end. Throws InputError naming the file,
  /// and for JSON lines the line.
  bool next(TextDocument& document);

  std::uint64_t total_bytes() const { return total_bytes_; }  ///< of all files
  std::uint64_t bytes_read() const;                           ///< up to the last document

 private:
  void add_folder(const std::filesystem::path& folder);
  void add_file(const std::filesystem::path& file);
  bool next_line(TextDocument& document);
  std::string place() const;

  TextOptions options_;
  std::vector<std::filesystem::path> files_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t finished_bytes_ = 0;  ///< of files that are read
  std::size_t next_file_ = 0;
  std::shared_ptr<const base::MappedFile> lines_;  ///< the JSON-lines file being read
  std::size_t position_ = 0;                       ///< in it, bytes
  std::int64_t line_ = 0;                          ///< in it, from 1
};

}  // namespace longspan::data
