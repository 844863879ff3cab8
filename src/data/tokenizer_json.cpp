#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "data/sentencepiece_tokenizer.h"
#include "data/utf8.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

using Json = nlohmann::json;
using Processor = sentencepiece::SentencePieceProcessor;

/// Two pieces whose join is a piece; the best score is merged first.
struct Merge {
  float score;
  int left;
  int right;
};

bool takes_part(const Processor& processor, int id) {
  return !processor.IsControl(id) && !processor.IsUnknown(id) && !processor.IsByte(id);
}

std::vector<Merge> merges_of(const Processor& processor) {
  std::unordered_map<std::string_view, int> ids;
  const int size = processor.GetPieceSize();
  for (int id = 0; id < size; ++id) {
    if (takes_part(processor, id)) ids.emplace(processor.IdToPiece(id), id);
  }
  std::vector<Merge> merges;
  for (int id = 0; id < size; ++id) {
    if (!takes_part(processor, id)) continue;
    const std::string_view piece = processor.IdToPiece(id);
    std::size_t cut = piece.empty() ? 0 : character_at(piece, 0).bytes;
    for (; cut < piece.size(); cut += character_at(piece, cut).bytes) {
      const auto left = ids.find(piece.substr(0, cut));
      const auto right = ids.find(piece.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({processor.GetScore(id), left->second, right->second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  return merges;
}

Json added_tokens(const Processor& processor) {
  Json tokens = Json::array();
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id) && !processor.IsUnknown(id)) continue;
    tokens.push_back({{"id", id},
                      {"content", processor.IdToPiece(id)},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", true}});
  }
  return tokens;
}

Json normalizer(bool prefix) {
  const Json mark = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xe2\x96\x81"}};
  if (!prefix) return mark;
  return {{"type", "Sequence"},
          {"normalizers", {{{"type", "Prepend"}, {"prepend", "\xe2\x96\x81"}}, mark}}};
}

Json decoder(bool prefix) {
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", "\xe2\x96\x81"}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (prefix) {
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return {{"type", "Sequence"}, {"decoders", steps}};
}

}  // namespace

std::string tokenizer_json(const Processor& processor, const SentencePieceSettings& settings) {
  Json vocabulary = Json::object();
  bool has_bytes = false;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    vocabulary[processor.IdToPiece(id)] = id;
    has_bytes = has_bytes || processor.IsByte(id);
  }
  Json merges = Json::array();
  for (const Merge& merge : merges_of(processor)) {
    merges.push_back({processor.IdToPiece(merge.left), processor.IdToPiece(merge.right)});
  }
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", processor.IdToPiece(processor.unk_id())},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", true},
                      {"byte_fallback", has_bytes},
                      {"vocab", vocabulary},
                      {"merges", merges}};
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(processor)},
                     {"normalizer", normalizer(settings.add_dummy_prefix)},
                     {"pre_tokenizer", nullptr},
                     {"post_processor", nullptr},
                     {"decoder", decoder(settings.add_dummy_prefix)},
                     {"model", model}};
  return base::json_text(file) + "\n";
}

}  // namespace longspan::data
