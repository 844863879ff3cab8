#include "longspan/base/declarations.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/suggest.h"
#include "longspan/base/error.h"
#include "longspan/base/json.h"

namespace longspan::base {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kShownCharacters = 60;
constexpr std::string_view kSchemaKey = "$schema";

/// The beginning of a text, cut between characters of UTF-8.
std::string shortened(std::string_view text) {
  if (text.size() <= kShownCharacters) return std::string(text);
  std::size_t cut = kShownCharacters;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;
  return std::string(text.substr(0, cut)) + "…";
}

std::string shown(const Json& value) { return shortened(json_text(value)); }

std::string join(std::string_view section, std::string_view name) {
  return section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
}

std::pair<std::string_view, std::string_view> split(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string_view::npos) return {"", path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

/// The value of an override. What is to be text is text as it stands, were it 123 or true.
Json override_value(const std::string& text, bool is_for_text, const std::string& where) {
  Json value = text;
  try {
    Json parsed = parse_json(text, where);
    if (!is_for_text || parsed.is_string()) value = std::move(parsed);
  } catch (const InputError&) {
    // Not JSON: then it is a string.
  }
  try {
    static_cast<void>(json_text(value));
  } catch (const Json::type_error&) {
    throw InputError(fmt::format("{}: the value is not UTF-8 text", where));
  }
  return value;
}

}  // namespace

Declarations::Declarations(std::string title, std::string help) : title_(std::move(title)) {
  sections_.push_back({"", std::move(help)});
}

void Declarations::section(std::string path, std::string help) {
  if (find_section(split(path).first) == nullptr || find_section(path) != nullptr) {
    throw InternalError(fmt::format("section {} is declared twice or outside of any", path));
  }
  sections_.push_back({std::move(path), std::move(help)});
}

Key& Declarations::add(std::string path, KeyKind kind, Key::Target target, std::string help,
                       std::vector<Key::Word> words, std::string other_texts) {
  if (find_section(split(path).first) == nullptr || find_key(path) != nullptr) {
    throw InternalError(fmt::format("key {} is declared twice or outside of any section", path));
  }
  return keys_.emplace_back(std::move(path), kind, target, std::move(help), std::move(words),
                            std::move(other_texts));
}

Key& Declarations::boolean(std::string path, bool& target, std::string help) {
  return add(std::move(path), KeyKind::kBool, &target, std::move(help));
}

Key& Declarations::boolean(std::string path, std::optional<bool>& target, std::string help) {
  return add(std::move(path), KeyKind::kBool, &target, std::move(help));
}

Key& Declarations::integer(std::string path, std::int64_t& target, std::string help) {
  return add(std::move(path), KeyKind::kInteger, &target, std::move(help));
}

Key& Declarations::integer(std::string path, std::optional<std::int64_t>& target,
                           std::string help) {
  return add(std::move(path), KeyKind::kInteger, &target, std::move(help));
}

Key& Declarations::integer(std::string path, std::uint64_t& target, std::string help) {
  return add(std::move(path), KeyKind::kInteger, &target, std::move(help)).at_least(0);
}

Key& Declarations::real(std::string path, double& target, std::string help) {
  return add(std::move(path), KeyKind::kReal, &target, std::move(help));
}

Key& Declarations::real(std::string path, std::optional<double>& target, std::string help) {
  return add(std::move(path), KeyKind::kReal, &target, std::move(help));
}

Key& Declarations::text(std::string path, std::string& target, std::string help) {
  return add(std::move(path), KeyKind::kText, &target, std::move(help));
}

Key& Declarations::path(std::string path, std::string& target, std::string help,
                        std::vector<Key::Word> words) {
  return add(std::move(path), KeyKind::kPath, &target, std::move(help), std::move(words));
}

Key& Declarations::choice(std::string path, std::string& target, std::vector<Key::Word> words,
                          std::string help) {
  return add(std::move(path), KeyKind::kChoice, &target, std::move(help), std::move(words));
}

Key& Declarations::phrase(std::string path, std::string& target, std::vector<Key::Word> words,
                          std::string other, std::string help) {
  return add(std::move(path), KeyKind::kPhrase, &target, std::move(help), std::move(words),
             std::move(other));
}

Key& Declarations::paths(std::string path, std::vector<std::string>& target, std::string help) {
  return add(std::move(path), KeyKind::kPathList, &target, std::move(help));
}

Key& Declarations::texts(std::string path, std::vector<std::string>& target,
                         std::vector<Key::Word> words, std::string other, std::string help) {
  return add(std::move(path), KeyKind::kTextList, &target, std::move(help), std::move(words),
             std::move(other));
}

Key& Declarations::reals(std::string path, std::vector<double>& target, std::string help) {
  return add(std::move(path), KeyKind::kRealList, &target, std::move(help));
}

Key& Declarations::size(std::string path, std::uint64_t& target, std::string help) {
  return add(std::move(path), KeyKind::kSize, &target, std::move(help)).at_least(0);
}

Key* Declarations::find_key(std::string_view path) {
  const auto found =
      std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.path() == path; });
  return found == keys_.end() ? nullptr : &*found;
}

const Declarations::Section* Declarations::find_section(std::string_view path) const {
  const auto found = std::find_if(sections_.begin(), sections_.end(),
                                  [&](const Section& section) { return section.path == path; });
  return found == sections_.end() ? nullptr : &*found;
}

std::string Declarations::names_in(std::string_view section) const {
  std::string names;
  const auto add_name = [&](std::string_view name) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  };
  for (const Key& key : keys_) {
    if (key.section() == section) add_name(key.name());
  }
  for (const Section& inner : sections_) {
    const auto [parent, name] = split(inner.path);
    if (!name.empty() && parent == section) add_name(name);
  }
  return names;
}

void Declarations::refuse_unknown(const std::string& path, std::string_view section,
                                  std::string_view name, bool is_section,
                                  const std::string& file) const {
  std::vector<Suggestion> sections;
  for (const Section& known : sections_) {
    const auto [parent, leaf] = split(known.path);
    if (!leaf.empty()) sections.push_back({std::string(leaf), known.path, parent != section});
  }
  std::vector<Suggestion> candidates;
  for (const Key& key : keys_) {
    const bool is_far = key.section() != section;
    candidates.push_back({std::string(key.name()), key.path(), is_far});
    candidates.push_back({key.path(), key.path(), is_far});
    for (const std::string& other : key.other_names()) {
      candidates.push_back({other, key.path(), is_far});
    }
  }
  // What holds an object is first of all compared with sections.
  candidates.insert(is_section ? candidates.begin() : candidates.end(), sections.begin(),
                    sections.end());
  std::optional<std::string> meant;
  const bool is_in_section = find_section(section) != nullptr;
  if (!is_in_section) meant = closest(path, candidates);
  if (!meant) meant = closest(name, candidates);
  const std::string where = fmt::format("{}: {}", file, shortened(path));
  const char* const what = is_section ? "section" : "key";
  const bool named = is_in_section && !section.empty();
  if (meant) throw InputError(fmt::format("{}: unknown {}; did you mean {}?", where, what, *meant));
  throw InputError(fmt::format("{}: unknown {}; legal {}: {}", where, what,
                               named ? fmt::format("in {}", section) : "at the top",
                               names_in(named ? section : "")));
}

void Declarations::read_key(Key& key, const Json& found, const std::string& file) {
  if (found.is_null()) {
    throw InputError(fmt::format("{}: {} is null; leave the key out or give it a value: {}", file,
                                 key.path(), key.legal()));
  }
  if (!key.assign(found)) {
    throw InputError(
        fmt::format("{}: {} is {}; legal: {}", file, key.path(), shown(found), key.legal()));
  }
  given_.push_back(&key);
}

void Declarations::read_section(const Json& found, const std::string& section,
                                const std::string& file) {
  for (const auto& [name, value] : found.items()) {
    const std::string path = join(section, name);
    if (path == kSchemaKey) {
      if (!value.is_string()) {
        throw InputError(fmt::format("{}: $schema is {}; legal: text, the address of a schema",
                                     file, shown(value)));
      }
      continue;
    }
    // A dot within a name must not reach into a section.
    const bool is_name = !name.empty() && name.find('.') == std::string::npos;
    if (Key* const key = is_name ? find_key(path) : nullptr; key != nullptr) {
      read_key(*key, value, file);
    } else if (is_name && find_section(path) != nullptr) {
      if (!value.is_object()) {
        throw InputError(fmt::format("{}: {} is {}; legal: an object {{...}} with the keys {}",
                                     file, path, shown(value), names_in(path)));
      }
      read_section(value, path, file);
    } else if (find_key(path) != nullptr) {
      throw InputError(fmt::format("{}: \"{}\" has a dot; write the section as an object: {}", file,
                                   path, R"("section": {"key": value})"));
    } else {
      refuse_unknown(path, section, name, value.is_object(), file);
    }
  }
}

void Declarations::override_key(const std::string& setting) {
  static const std::string kSource = "--set";
  const std::size_t equals = setting.find('=');
  if (equals == 0 || equals == std::string::npos) {
    throw InputError(fmt::format("{} {}: expected key=value, such as {}=...", kSource,
                                 shortened(setting), keys_.front().path()));
  }
  const std::string path = setting.substr(0, equals);
  Key* const key = find_key(path);
  if (key == nullptr && find_section(path) != nullptr) {
    throw InputError(
        fmt::format("{}: {} is a section; set one key of it: {}", kSource, path, names_in(path)));
  }
  const auto [section, name] = split(path);
  if (key == nullptr) refuse_unknown(path, section, name, false, kSource);
  const bool is_for_text = key->kind() == KeyKind::kText || key->kind() == KeyKind::kPath ||
                           key->kind() == KeyKind::kChoice;
  read_key(
      *key,
      override_value(setting.substr(equals + 1), is_for_text, fmt::format("{}: {}", kSource, path)),
      kSource);
}

void Declarations::check_required(const std::string& file) const {
  std::string missing;
  const auto is_given = [&](std::string_view path) {
    return std::any_of(given_.begin(), given_.end(),
                       [&](const Key* key) { return key->path() == path; });
  };
  for (const Key& key : keys_) {
    const bool has_substitute = !key.substitute().empty();
    if (!key.is_required() && !has_substitute) continue;
    if (is_given(key.path()) || (has_substitute && is_given(key.substitute()))) continue;
    missing += fmt::format("{}{} ({})", missing.empty() ? "" : ", ", key.path(), key.legal());
  }
  if (!missing.empty()) {
    throw InputError(fmt::format("{}: required but missing: {}", file, missing));
  }
}

void Declarations::read(const Json& document, const std::string& file,
                        const std::vector<std::string>& overrides) {
  given_.clear();
  for (Key& key : keys_) key.reset();
  if (!document.is_object()) {
    throw InputError(fmt::format("{}: found {}; expected an object {{...}} with {}", file,
                                 shown(document), names_in("")));
  }
  read_section(document, "", file);
  for (const std::string& setting : overrides) override_key(setting);
  check_required(file);
}

void Declarations::read_text(std::string_view text, const std::string& file) {
  read(parse_json(text, file), file);
}

void Declarations::read_file(const std::string& file, const std::vector<std::string>& overrides,
                             std::size_t max_bytes) {
  read(read_json(file, max_bytes), file, overrides);
}

}  // namespace longspan::base
