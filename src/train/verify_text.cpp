#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "longspan/base/json.h"
#include "longspan/train/verify.h"

namespace longspan::train {
namespace {

using nlohmann::ordered_json;

/// "model.layers.3.mlp.up_proj.weight" -> "block 3"; others are named as they are.
std::string layer_of(const std::string& parameter) {
  constexpr std::string_view kBlocks = "model.layers.";
  if (!parameter.starts_with(kBlocks)) return parameter;
  const std::size_t end = parameter.find('.', kBlocks.size());
  return fmt::format("block {}", parameter.substr(kBlocks.size(), end - kBlocks.size()));
}

/// Of one layer, the parameter that differs most.
struct Layer {
  std::string name;
  Difference worst;
};

/// What is not a number is worst.
bool is_worse(const Difference& one, const Difference& other) {
  return !std::isnan(other.relative) && !(one.relative <= other.relative);
}

std::vector<Layer> by_layer(const std::vector<Difference>& gradients) {
  std::vector<Layer> layers;
  for (const Difference& one : gradients) {
    const std::string name = layer_of(one.name);
    if (layers.empty() || layers.back().name != name) {
      layers.push_back({name, one});
    } else if (is_worse(one, layers.back().worst)) {
      layers.back().worst = one;
    }
  }
  return layers;
}

std::string table(const Comparison& comparison) {
  std::string text = fmt::format("In {}, to {:g}:\n", comparison.precision, comparison.tolerance);
  const auto line = [&](const std::string& name, const Difference& difference,
                        const std::string& worst) {
    const bool differs = !(difference.relative <= comparison.tolerance);
    text += fmt::format("  {:<28}{:>10.2e}  {}{}\n", name, difference.relative, worst,
                        differs ? "  DIFFERS" : "");
  };
  line(fmt::format("loss {:.6g}", comparison.loss), comparison.loss_difference, "");
  line("gradient norm", comparison.norm_difference, "");
  for (const Layer& layer : by_layer(comparison.gradients)) {
    const bool is_block = layer.name != layer.worst.name;
    line(layer.name, layer.worst, is_block ? fmt::format("most in {}", layer.worst.name) : "");
  }
  return text;
}

}  // namespace

std::string verification_text(const Verification& verification) {
  std::string text =
      fmt::format("{}: {}, against one rank that shards, chunks and recomputes nothing\n",
                  verification.job.run.name, verification.layout);
  if (!verification.shrunk.empty()) {
    text += fmt::format("made small: {}\n", fmt::join(verification.shrunk, ", "));
  }
  for (const Comparison& comparison : verification.comparisons) {
    text += fmt::format("\n{}", table(comparison));
  }
  text += verification.agrees() ? "\nThe layout does not matter: all agree.\n"
                                : "\nTHE LAYOUT CHANGES THE RESULT.\n";
  return text;
}

std::string verification_json(const Verification& verification) {
  ordered_json json;
  json["name"] = verification.job.run.name;
  json["layout"] = verification.layout;
  json["shrunk"] = verification.shrunk;
  json["agrees"] = verification.agrees();
  json["comparisons"] = ordered_json::array();
  for (const Comparison& comparison : verification.comparisons) {
    ordered_json one;
    one["precision"] = comparison.precision;
    one["tolerance"] = comparison.tolerance;
    one["agrees"] = comparison.agrees();
    one["loss"] = comparison.loss;
    one["relative_error"]["loss"] = comparison.loss_difference.relative;
    one["relative_error"]["grad_norm"] = comparison.norm_difference.relative;
    for (const Difference& gradient : comparison.gradients) {
      one["relative_error"]["gradients"][gradient.name] = gradient.relative;
    }
    json["comparisons"].push_back(std::move(one));
  }
  return base::json_text(json);
}

}  // namespace longspan::train
