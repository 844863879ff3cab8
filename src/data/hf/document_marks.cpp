#include "data/hf/document_marks.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace longspan::data::hf {
namespace {

std::optional<std::string> configured(const JsonNode& config, std::string_view name) {
  const auto token = config.find(name);
  if (!token) return std::nullopt;
  return token->is_object() ? token->at("content").string() : token->string();
}

DocumentMarks read_template(const JsonNode& node) {
  node.allow_only({"type", "single", "pair", "special_tokens"});
  DocumentMarks marks;
  bool behind_text = false;
  for (const JsonNode& part : node.at("single").elements()) {
    part.allow_only({"SpecialToken", "Sequence"});
    const auto special = part.find("SpecialToken");
    if (!special) {
      behind_text = true;
    } else if (behind_text) {
      marks.eos = special->at("id").string();
    } else {
      marks.bos = special->at("id").string();
    }
  }
  return marks;
}

/// The first of a pair of content and id, as [“</s>”, 2].
std::string first_of(const JsonNode& node) {
  const auto parts = node.elements();
  if (parts.empty()) node.refuse("expected a token and its id");
  return parts.front().string();
}

}  // namespace

DocumentMarks read_configured_marks(const JsonNode& config) {
  return {configured(config, "bos_token"), configured(config, "eos_token")};
}

DocumentMarks read_post_processor(const JsonNode& node) {
  const std::string& type = node.type();
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    return {first_of(node.at("cls")), first_of(node.at("sep"))};
  }
  if (type != "Sequence") {
    node.refuse(fmt::format(
        "the post-processor {} is not supported; known are TemplateProcessing, RobertaProcessing, "
        "BertProcessing, ByteLevel, Sequence",
        shown(type)));
  }
  DocumentMarks marks;
  for (const JsonNode& step : node.at("processors").elements()) {
    const DocumentMarks found = read_post_processor(step);
    if (found.bos) marks.bos = found.bos;
    if (found.eos) marks.eos = found.eos;
  }
  return marks;
}

}  // namespace longspan::data::hf
