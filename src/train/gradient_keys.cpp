#include "train/gradient_keys.h"

#include <fmt/format.h>

#include <limits>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/nn/weight_gradient.h"
#include "longspan/optim/kinds.h"
#include "train/key_limits.h"

namespace longspan::train {

using base::InputError;

namespace {

static_assert(std::string_view(model::VeloraConfig::kNone) == model::RowSamplingConfig::kNone);

/// `none`: what the word for no matrices means.
base::Key& declare_targets(const char* key, std::vector<std::string>& targets, const char* none,
                           base::Declarations& keys) {
  return keys.texts(key, targets,
                    {{model::VeloraConfig::kNone, none},
                     {nn::ModuleNames::kAllLinear, "all matrices of the blocks"}},
                    "names of modules such as [\"v_proj\", \"down_proj\"]",
                    "Which matrices, as adapter.target_modules names them.");
}

/// Of a section that names no matrices.
void check_unnamed(const char* section, bool is_default) {
  if (is_default) return;
  throw InputError(
      fmt::format("{0} has other keys, but {0}.target_modules is \"none\": name matrices, or "
                  "leave the section out",
                  section));
}

}  // namespace

void declare_velora(model::VeloraConfig& velora, base::Declarations& keys) {
  keys.section(
      "velora",
      "Gradients of matrices, or of adapters' As, of which groups of inputs are compressed "
      "to a number each (VeLoRA): the less is multiplied, summed over ranks and kept, with "
      "optimizer.name \"adamw\". Not exact; the outputs and what goes on backward are.");
  declare_targets("velora.target_modules", velora.target_modules, "all gradients are exact", keys)
      .known_elsewhere_as({"velora_layers", "velora_targets"});
  keys.integer("velora.groups", velora.groups,
               "Numbers that are left of the inputs of such a matrix, which they divide.")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"num_groups", "velora_num_groups", "velora_groups"});
  keys.real("velora.scale", velora.scale,
            "Factor of these gradients, which with Adam matters for clipping and epsilon alone.")
      .above(0)
      .known_elsewhere_as({"velora_scale"});
}

void declare_sampling(model::RowSamplingConfig& sampling, base::Declarations& keys) {
  keys.section("column_row_sampling",
               "Gradients of matrices, or of adapters' As, that are made of a part of the tokens, "
               "drawn at random so that they are right in the mean: fewer products. The outputs "
               "and what goes on backward are exact.");
  declare_targets("column_row_sampling.target_modules", sampling.target_modules, "all tokens count",
                  keys)
      .known_elsewhere_as({"wta_crs_layers", "approx_layers"});
  keys.real("column_row_sampling.ratio", sampling.ratio,
            "Part of a step's tokens that is drawn, by |input| |gradient| of each as in the step "
            "before; the first step draws all.")
      .above(0)
      .at_most(1)
      .known_elsewhere_as({"wta_crs_ratio", "sample_ratio", "keep_ratio"});
}

void check_token_numbers(const Job& job, const char* key) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (job.training.tokens_per_step <= kMost) return;
  throw InputError(
      fmt::format("training.tokens_per_step is {}; with {} at most {} tokens of a step have "
                  "numbers",
                  job.training.tokens_per_step, key, kMost));
}

void check_velora(const Job& job) {
  const model::VeloraConfig& velora = job.velora;
  if (!velora.is_on()) return check_unnamed("velora", velora == model::VeloraConfig());
  velora.check(job.model, job.lora(), "velora");
  const optim::OptimizerKind& kind = optim::optimizer_kind(job.optimizer.name);
  if (!kind.takes_compressed_gradients) {
    throw InputError(fmt::format(
        "velora.target_modules is given, but optimizer.name is \"{}\", which needs whole "
        "gradients; legal: \"adamw\", whose moments of them are compressed, too",
        kind.name));
  }
  if (job.optimizer.moments == "full") return;
  throw InputError(fmt::format(
      "velora.target_modules is given, but optimizer.moments is \"{}\"; legal: \"full\", since "
      "moments are compressed already",
      job.optimizer.moments));
}

void check_sampling(const Job& job) {
  const model::RowSamplingConfig& sampling = job.column_row_sampling;
  if (!sampling.is_on()) {
    return check_unnamed("column_row_sampling", sampling == model::RowSamplingConfig());
  }
  sampling.check(job.model, job.lora(), "column_row_sampling");
  if (!job.has_backward()) {
    throw InputError(
        fmt::format("column_row_sampling.target_modules is given, but optimizer.name is \"{}\", "
                    "which forms no gradients; leave the section out",
                    job.optimizer.name));
  }
  const nn::ModuleNames compressed{job.velora.target_modules};
  for (const auto& module :
       model::trained_modules(job.model, sampling.target_modules, job.lora())) {
    if (!job.velora.is_on() || !compressed.contain(module.name)) continue;
    throw InputError(fmt::format(
        "column_row_sampling.target_modules and velora.target_modules both name {}; legal: one of "
        "them",
        module.name));
  }
  check_token_numbers(job, "column_row_sampling");
}

}  // namespace longspan::train
