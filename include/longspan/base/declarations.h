#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace longspan::base {

/// What a key's value is and how it is written in JSON.
enum class KeyKind : std::uint8_t {
  kBool,
  kInteger,   ///< whole number; also written 1e6 or 3.0
  kReal,      ///< finite number
  kText,      ///< any string without control characters
  kPath,      ///< the same, naming a file or directory; some words may mean something else
  kChoice,    ///< one word of a list
  kPhrase,    ///< one word of a list, or a text that the key's user reads further
  kPathList,  ///< list of strings
  kTextList,  ///< list of strings, or a word alone, which stands for a list of it
  kRealList,  ///< list of finite numbers, at least one; bounds are each one's
  kSize,      ///< bytes: a whole number, or a string such as "1GiB", "1.5 MiB", "2GB"
};

/// One declared key: where it is, what it is bound to, and everything the program says about it.
/// The functions that return the key itself are called in a chain where it is declared.
class Key {
 public:
  using Value = std::variant<bool, std::optional<bool>, std::int64_t, std::optional<std::int64_t>,
                             std::uint64_t, double, std::optional<double>, std::string,
                             std::vector<std::string>, std::vector<double>>;
  using Target =
      std::variant<bool*, std::optional<bool>*, std::int64_t*, std::optional<std::int64_t>*,
                   std::uint64_t*, double*, std::optional<double>*, std::string*,
                   std::vector<std::string>*, std::vector<double>*>;
  using Word = std::pair<std::string, std::string>;  ///< a word and what it means

  Key(std::string path, KeyKind kind, Target target, std::string help, std::vector<Word> words,
      std::string other_texts = "");

  Key& required();
  /// Required where `other`, a text of the same section declared before it, is not given.
  Key& required_unless(std::string other);
  /// Bounds of a number; of a text or list, `at_least(1)` means not empty.
  Key& at_least(double bound);
  Key& above(double bound);
  Key& at_most(double bound);
  Key& below(double bound);
  /// Zero is written "auto", and means this. A plain 0 is then not legal unless in the range.
  Key& automatic(std::string meaning);
  /// Zero (of an optional: nothing; of a text or list: none) stands for a key that was left out,
  /// and means this.
  Key& may_be_absent(std::string meaning);
  Key& unit(std::string unit);
  /// A phrase may also be a whole number, at least 1, which is handed on as its digits.
  Key& or_count();
  /// Names that other programs use for it: only to suggest this one.
  Key& known_elsewhere_as(std::vector<std::string> names);

  const std::string& path() const { return path_; }
  std::string_view section() const;  ///< "" at the top
  std::string_view name() const;     ///< behind the last dot
  const std::string& help() const { return help_; }
  bool is_required() const { return required_; }
  /// The path of the key that stands in for this one; empty: none does.
  const std::string& substitute() const { return substitute_; }
  KeyKind kind() const { return kind_; }
  const std::vector<std::string>& other_names() const { return other_names_; }

  /// "integer", "list of paths", ...
  std::string type() const;
  /// Values and unit: "in [0, 1)", "\"a\" or \"b\"", "> 0 tokens"; empty when any will do.
  std::string range() const;
  /// Type and range in one, for messages.
  std::string legal() const;
  /// The help text with the meaning of the words that are legal.
  std::string meaning() const;
  /// The default as JSON text, or what absence means; "required" when there is none.
  std::string default_text() const;
  /// Adds this key's JSON Schema to `property`, an object.
  void describe(nlohmann::ordered_json& property) const;

  /// Takes a value found in JSON. False, with the target as it was, when it is not legal.
  bool assign(const nlohmann::json& found);
  void reset();
  /// The present value, as `assign` would take it; nothing for a key that counts as absent.
  std::optional<nlohmann::ordered_json> present() const;

 private:
  std::optional<Value> convert(const nlohmann::json& found) const;
  std::optional<Value> convert_integer(const nlohmann::json& found) const;
  std::optional<Value> convert_list(const nlohmann::json& found) const;
  bool in_range(long double number) const;
  Value value() const;
  void store(const Value& value);
  std::string bounds() const;
  nlohmann::ordered_json to_json(const Value& value) const;
  void describe_kind(nlohmann::ordered_json& property) const;
  void describe_bounds(nlohmann::ordered_json& property) const;

  std::string path_;
  KeyKind kind_;
  Target target_;
  std::string help_;
  std::vector<Word> words_;
  std::string unit_;
  std::string auto_meaning_;
  std::string absent_meaning_;
  std::string other_texts_;
  bool takes_count_ = false;
  std::vector<std::string> other_names_;
  std::optional<double> low_;
  std::optional<double> high_;
  bool low_is_open_ = false;
  bool high_is_open_ = false;
  bool required_ = false;
  std::string substitute_;
  Value default_;
};

/// The keys of one kind of JSON file, each declared once and bound to a variable whose value at
/// that moment is the default. Reading, writing, the schema and the help come from the same
/// declarations. Variables must outlive this. Not thread-safe.
class Declarations {
 public:
  struct Section {
    std::string path;
    std::string help;
  };

  Declarations(std::string title, std::string help);

  /// Opens a section, named by its dotted path; its keys and inner sections follow.
  void section(std::string path, std::string help);
  Key& boolean(std::string path, bool& target, std::string help);
  /// Nothing: left out; say what that means (`may_be_absent`).
  Key& boolean(std::string path, std::optional<bool>& target, std::string help);
  Key& integer(std::string path, std::int64_t& target, std::string help);
  Key& integer(std::string path, std::optional<std::int64_t>& target, std::string help);
  Key& integer(std::string path, std::uint64_t& target, std::string help);
  Key& real(std::string path, double& target, std::string help);
  Key& real(std::string path, std::optional<double>& target, std::string help);
  Key& text(std::string path, std::string& target, std::string help);
  /// `words` are legal besides paths and mean something else.
  Key& path(std::string path, std::string& target, std::string help,
            std::vector<Key::Word> words = {});
  Key& choice(std::string path, std::string& target, std::vector<Key::Word> words,
              std::string help);
  /// `other` describes the legal texts besides the words: "a size such as \"64MiB\"".
  Key& phrase(std::string path, std::string& target, std::vector<Key::Word> words,
              std::string other, std::string help);
  Key& paths(std::string path, std::vector<std::string>& target, std::string help);
  /// `words` may stand alone, without a list around them; `other` describes the legal texts.
  Key& texts(std::string path, std::vector<std::string>& target, std::vector<Key::Word> words,
             std::string other, std::string help);
  Key& reals(std::string path, std::vector<double>& target, std::string help);
  Key& size(std::string path, std::uint64_t& target, std::string help);

  /// Sets every variable: from the overrides ("a.b=value", the value as JSON or else a string;
  /// the last of several holds), else from the document, else to its default. `file` is for
  /// messages. Throws InputError naming the first key that is unknown (with the closest known
  /// one), not legal (with what is) or, all of them, missing; variables may then be half set.
  void read(const nlohmann::json& document, const std::string& file,
            const std::vector<std::string>& overrides = {});
  /// The same of JSON text, as parse_json reads it.
  void read_text(std::string_view text, const std::string& file);
  /// The same of a whole file.
  void read_file(const std::string& file, const std::vector<std::string>& overrides,
                 std::size_t max_bytes);

  /// JSON Schema, draft 2020-12.
  std::string schema() const;
  /// For a terminal: section by section, 100 columns.
  std::string help() const;
  /// A heading and a table for each section.
  std::string markdown() const;
  /// Every key with its present value, in the order declared. Reading it gives the same values.
  std::string to_json() const;

 private:
  Key& add(std::string path, KeyKind kind, Key::Target target, std::string help,
           std::vector<Key::Word> words = {}, std::string other_texts = "");
  void read_section(const nlohmann::json& found, const std::string& section,
                    const std::string& file);
  void read_key(Key& key, const nlohmann::json& found, const std::string& file);
  void override_key(const std::string& setting);
  void check_required(const std::string& file) const;
  [[noreturn]] void refuse_unknown(const std::string& path, std::string_view section,
                                   std::string_view name, bool is_section,
                                   const std::string& file) const;
  std::string names_in(std::string_view section) const;
  Key* find_key(std::string_view path);
  const Section* find_section(std::string_view path) const;
  nlohmann::ordered_json schema_of(const Section& section) const;

  std::string title_;
  std::deque<Key> keys_;  // a deque: `add` hands out references
  std::deque<Section> sections_;
  std::vector<const Key*> given_;  // by the file or an override, in the last read
};

}  // namespace longspan::base
