#include "data/hf/bpe_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace longspan::data::hf {
namespace {

constexpr std::int64_t kMostIds = std::int64_t{1} << 24U;
constexpr std::size_t kLongestAdded = 1024;

using Ids = std::unordered_map<std::string_view, TokenId>;

AddedToken read_added(const JsonNode& node, TokenId id) {
  AddedToken token;
  token.id = id;
  token.content = node.at("content").string();
  token.single_word = node.boolean("single_word", false);
  token.lstrip = node.boolean("lstrip", false);
  token.rstrip = node.boolean("rstrip", false);
  token.special = node.boolean("special", false);
  token.normalized = node.boolean("normalized", !token.special);
  if (token.content.empty() || token.content.size() > kLongestAdded) {
    node.at("content").refuse(fmt::format("must have 1 to {} bytes", kLongestAdded));
  }
  return token;
}

/// The vocabulary by content, with every id below what it and the added tokens can fill.
Ids read_vocabulary(const JsonNode& node, const std::vector<AddedToken>& added,
                    std::vector<std::string>& tokens) {
  if (!node.is_object()) node.refuse("expected an object of tokens and their ids");
  const auto most = static_cast<std::int64_t>(node.value().size() + added.size());
  if (most > kMostIds) node.refuse(fmt::format("more than {} tokens", kMostIds));
  Ids ids;
  std::vector<bool> used(static_cast<std::size_t>(most));
  tokens.resize(static_cast<std::size_t>(most));
  for (const auto& [name, value] : node.value().items()) {
    const std::string& content = name;
    const auto refuse = [&](const std::string& why) {
      node.refuse(fmt::format("the token {}: {}", shown(content), why));
    };
    if (!value.is_number_unsigned() ||
        value.get<std::uint64_t>() >= static_cast<std::uint64_t>(most)) {
      refuse(fmt::format("its id must be an integer in [0, {}), as ids must have no holes", most));
    }
    const auto id = value.get<std::size_t>();
    if (used[id]) refuse(fmt::format("its id {} is that of {}, too", id, shown(tokens[id])));
    used[id] = true;
    tokens[id] = content;
    // The key of the JSON object: it lives as long as the file.
    ids.emplace(node.value().find(content).key(), static_cast<TokenId>(id));
  }
  for (const AddedToken& token : added) {
    const auto id = static_cast<std::size_t>(token.id);
    const auto known = ids.find(token.content);
    const bool fits = known != ids.end() ? known->second == token.id : token.id < most && !used[id];
    if (!fits) {
      node.refuse(
          fmt::format("the added token {} has the id {}, which the vocabulary has otherwise",
                      shown(token.content), token.id));
    }
    used[id] = true;
    tokens[id] = token.content;
  }
  while (!used.empty() && !used.back()) used.pop_back();
  tokens.resize(used.size());
  for (std::size_t id = 0; id < used.size(); ++id) {
    if (!used[id]) node.refuse(fmt::format("no token has the id {}: ids must have no holes", id));
  }
  if (used.empty()) node.refuse("has no tokens");
  return ids;
}

/// The two sides of a merge, of ["a", "b"] or "a b".
std::pair<std::string_view, std::string_view> sides(const JsonNode& node) {
  if (node.is_array()) {
    const auto& pair = node.value();
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      node.refuse("expected two tokens");
    }
    return {pair[0].get_ref<const std::string&>(), pair[1].get_ref<const std::string&>()};
  }
  const std::string_view text = node.string();
  const std::size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos) {
    node.refuse("expected two tokens with a space between them");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::vector<MergeRule> read_merges(const JsonNode& node, const Ids& ids) {
  std::vector<MergeRule> merges;
  std::unordered_set<std::uint64_t> pairs;
  for (const JsonNode& merge : node.elements()) {
    const auto [left, right] = sides(merge);
    const auto id_of = [&, merge = &merge](std::string_view token) {
      const auto found = ids.find(token);
      if (found == ids.end() || token.empty()) {
        merge->refuse(fmt::format("the vocabulary has no token {}", shown(token)));
      }
      return found->second;
    };
    const std::string joined = std::string(left).append(right);
    merges.push_back({id_of(left), id_of(right), id_of(joined)});
    const std::uint64_t pair = (static_cast<std::uint64_t>(merges.back().left) << 32U) |
                               static_cast<std::uint32_t>(merges.back().right);
    if (!pairs.insert(pair).second) merge.refuse("this pair was merged before");
  }
  return merges;
}

void refuse_unsupported(const JsonNode& model) {
  if (const auto type = model.find("type"); type && type->string() != "BPE") {
    type->refuse(fmt::format(
        "the model {} is not supported, only BPE; of a sentencepiece model name the .model file",
        shown(type->string())));
  }
  model.allow_only({"type", "dropout", "unk_token", "continuing_subword_prefix",
                    "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
                    "merges"});
  if (const auto dropout = model.find("dropout"); dropout && dropout->value() != 0) {
    dropout->refuse("dropout is not supported: ids would be random");
  }
  for (const char* const affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string(affix, "").empty()) model.at(affix).refuse("is not supported; expected null");
  }
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const JsonNode& file) {
  std::vector<AddedToken> tokens;
  const auto list = file.find("added_tokens");
  if (!list) return tokens;
  std::set<std::string> contents;
  std::set<TokenId> ids;
  for (const JsonNode& node : list->elements()) {
    node.allow_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    const auto id = static_cast<TokenId>(node.at("id").integer(0, kMostIds - 1));
    tokens.push_back(read_added(node, id));
    const std::string& content = tokens.back().content;
    if (!contents.insert(content).second) {
      node.refuse(fmt::format("the token {} is there twice", shown(content)));
    }
    if (!ids.insert(id).second) node.refuse(fmt::format("the id {} is there twice", id));
  }
  return tokens;
}

void read_added_tokens_decoder(const JsonNode& config, std::vector<AddedToken>& tokens) {
  const auto decoder = config.find("added_tokens_decoder");
  if (!decoder) return;
  if (!decoder->is_object()) decoder->refuse("expected an object of ids and tokens");
  std::unordered_map<std::string, TokenId> contents;
  std::unordered_map<TokenId, std::string> ids;
  for (const AddedToken& token : tokens) {
    contents.emplace(token.content, token.id);
    ids.emplace(token.id, token.content);
  }
  for (const auto& [name, value] : decoder->value().items()) {
    const JsonNode node = decoder->at(name);
    TokenId id = -1;
    const auto end = std::from_chars(name.data(), name.data() + name.size(), id);
    if (end.ptr != name.data() + name.size() || end.ec != std::errc() || id < 0 || id >= kMostIds) {
      node.refuse(fmt::format("{} is not an id", shown(name)));
    }
    AddedToken token = read_added(node, id);
    const auto by_content = contents.find(token.content);
    const auto by_id = ids.find(id);
    if (by_content != contents.end() && by_content->second == id) continue;
    if (by_content != contents.end() || by_id != ids.end()) {
      node.refuse(fmt::format("tokenizer.json has the id {} or the token {} otherwise", id,
                              shown(token.content)));
    }
    contents.emplace(token.content, id);
    ids.emplace(id, token.content);
    tokens.push_back(std::move(token));
  }
}

BpeParts read_bpe(const JsonNode& model, const std::vector<AddedToken>& added, bool byte_level) {
  refuse_unsupported(model);
  BpeParts parts;
  const Ids ids = read_vocabulary(model.at("vocab"), added, parts.tokens);
  parts.merges = read_merges(model.at("merges"), ids);
  parts.byte_level = byte_level;
  parts.byte_fallback = model.boolean("byte_fallback", false);
  parts.fuse_unknown = model.boolean("fuse_unk", false);
  parts.ignore_merges = model.boolean("ignore_merges", false);
  const std::string unknown = model.string("unk_token", "");
  if (unknown.empty()) return parts;
  const auto found = ids.find(unknown);
  const auto is_it = [&](const AddedToken& token) { return token.content == unknown; };
  const auto token = std::find_if(added.begin(), added.end(), is_it);
  if (found == ids.end() && token == added.end()) {
    model.at("unk_token").refuse(fmt::format("the vocabulary has no token {}", shown(unknown)));
  }
  parts.unknown = found == ids.end() ? token->id : found->second;
  return parts;
}

}  // namespace longspan::data::hf
