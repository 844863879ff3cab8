#include "train/adapter_keys.h"

#include <fmt/format.h>

#include <limits>

#include "longspan/base/error.h"
#include "longspan/nn/lora.h"
#include "longspan/optim/kinds.h"
#include "train/key_limits.h"

namespace longspan::train {

using base::InputError;

std::optional<model::LoraConfig> Job::lora() const {
  if (adapter.type != "lora") return std::nullopt;
  model::LoraConfig lora = adapter.lora;
  lora.packs_base = adapter.base_weights == "nf4";
  return lora;
}

namespace {

/// Of a job that draws by its tokens, for the sake of `key`.
void check_token_numbers(const Job& job, const char* key) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (job.training.tokens_per_step <= kMost) return;
  throw InputError(
      fmt::format("training.tokens_per_step is {}; with {} at most {} tokens of a step have "
                  "numbers",
                  job.training.tokens_per_step, key, kMost));
}

}  // namespace

std::int64_t Job::trained_parameters() const {
  const auto adapters = lora();
  return adapters ? model::adapter_parameters(model, *adapters) : model.parameters();
}

double Job::training_flops(const std::vector<std::int32_t>& cu_seqlens) const {
  const auto adapters = lora();
  if (!has_backward()) {
    // A backward is two forwards' work. Of adapters: a multiply-add a number and token.
    const double beside = adapters ? 2.0 * static_cast<double>(trained_parameters()) *
                                         static_cast<double>(cu_seqlens.back())
                                   : 0.0;
    return 2.0 * (model.training_flops(cu_seqlens) / 3.0 + beside);
  }
  const double exact = adapters ? model::adapter_training_flops(model, *adapters, cu_seqlens)
                                : model.training_flops(cu_seqlens);
  const double saved =
      velora.saved_flops(model, adapters) + column_row_sampling.saved_flops(model, adapters);
  return exact - saved * static_cast<double>(cu_seqlens.back());
}

void declare_adapter(Job::Adapter& adapter, base::Declarations& keys) {
  keys.section("adapter", "What is trained beside a model that stays as it is.");
  keys.choice("adapter.type", adapter.type,
              {{"none", "nothing: the model itself is trained"},
               {"lora", "low-rank adapters of matrices; model.from is their base"}},
              "What kind of adapter.")
      .known_elsewhere_as({"peft_type", "method", "finetuning_type", "peft"});
  keys.path("adapter.from", adapter.from,
            "A directory with an adapter to begin with, of PEFT's format: a checkpoint of such a "
            "job, or what PEFT saved; rank, alpha, target_modules and rank_stabilized are then its "
            "own.")
      .may_be_absent("a new one")
      .known_elsewhere_as({"adapter_path", "adapter_name_or_path", "lora_path"});
  keys.integer("adapter.rank", adapter.lora.rank, "Rank of each adapter.")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"r", "lora_r", "lora_rank", "lora_dim"});
  keys.real("adapter.alpha", adapter.lora.alpha,
            "Scale of the adapters: what they add is multiplied by alpha / rank.")
      .above(0)
      .known_elsewhere_as({"lora_alpha", "scaling"});
  keys.real("adapter.dropout", adapter.lora.dropout,
            "Probability with which an adapter does not see an element of its input in training.")
      .at_least(0)
      .below(1)
      .known_elsewhere_as({"lora_dropout"});
  keys.texts(
          "adapter.target_modules", adapter.lora.target_modules,
          {{nn::ModuleNames::kAllLinear, "all matrices of the blocks"}},
          "names of modules such as [\"q_proj\", \"v_proj\"]",
          "Which matrices have adapters, by their modules' names in transformers, or the ends of "
          "these behind a dot.")
      .known_elsewhere_as({"lora_target", "lora_target_modules", "targets", "modules"});
  keys.boolean("adapter.rank_stabilized", adapter.lora.rank_stabilized,
               "Whether the scale is alpha / sqrt(rank).")
      .known_elsewhere_as({"use_rslora", "rslora"});
  keys.choice("adapter.base_weights", adapter.base_weights,
              {{"full", "in the dtype of training.precision"},
               {"nf4",
                "matrices of blocks in 4.13 bits an element, NF4 with double quantization "
                "as bitsandbytes has it (QLoRA); a block's are made whole while it works"}},
              "How the base is kept.")
      .known_elsewhere_as(
          {"load_in_4bit", "qlora", "bnb_4bit_quant_type", "quantization_bit", "quantization"});
}

void declare_velora(model::VeloraConfig& velora, base::Declarations& keys) {
  keys.section(
      "velora",
      "Gradients of matrices, or of adapters' As, of which groups of inputs are compressed "
      "to a number each (VeLoRA): the less is multiplied, summed over ranks and kept, with "
      "optimizer.name \"adamw\". Not exact; the outputs and what goes on backward are.");
  keys.texts("velora.target_modules", velora.target_modules,
             {{model::VeloraConfig::kNone, "all gradients are exact"},
              {nn::ModuleNames::kAllLinear, "all matrices of the blocks"}},
             "names of modules such as [\"v_proj\", \"down_proj\"]",
             "Which matrices, as adapter.target_modules names them.")
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
  keys.texts("column_row_sampling.target_modules", sampling.target_modules,
             {{model::RowSamplingConfig::kNone, "all tokens count"},
              {nn::ModuleNames::kAllLinear, "all matrices of the blocks"}},
             "names of modules such as [\"v_proj\", \"down_proj\"]",
             "Which matrices, as adapter.target_modules names them.")
      .known_elsewhere_as({"wta_crs_layers", "approx_layers"});
  keys.real("column_row_sampling.ratio", sampling.ratio,
            "Part of a step's tokens that is drawn, by |input| |gradient| of each as in the step "
            "before; the first step draws all.")
      .above(0)
      .at_most(1)
      .known_elsewhere_as({"wta_crs_ratio", "sample_ratio", "keep_ratio"});
}

void check_sampling(const Job& job) {
  const model::RowSamplingConfig& sampling = job.column_row_sampling;
  if (!sampling.is_on()) {
    if (sampling == model::RowSamplingConfig()) return;
    throw InputError(
        "column_row_sampling has other keys, but column_row_sampling.target_modules is \"none\": "
        "name matrices, or leave the section out");
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

void check_velora(const Job& job) {
  const model::VeloraConfig& velora = job.velora;
  if (!velora.is_on()) {
    if (velora == model::VeloraConfig()) return;
    throw InputError(
        "velora has other keys, but velora.target_modules is \"none\": name matrices, or leave "
        "the section out");
  }
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

void check_adapter(const Job& job) {
  const Job::Adapter& adapter = job.adapter;
  if (adapter.type == "none") {
    const bool is_default = adapter.from.empty() && adapter.lora == model::LoraConfig() &&
                            adapter.base_weights == "full";
    if (is_default) return;
    throw InputError(
        "adapter has other keys, but adapter.type is \"none\": set it to \"lora\", or leave the "
        "section out");
  }
  if (job.model_from.empty()) {
    throw InputError(fmt::format(
        "adapter.type is \"{}\", but model.from is not given: name the directory of the model that "
        "is its base",
        adapter.type));
  }
  if (adapter.lora.target_modules.empty()) {
    throw InputError("adapter.target_modules is empty; name a module at least");
  }
  model::check_targets(adapter.lora.target_modules, job.model, "adapter.target_modules");
  if (adapter.base_weights == "nf4" && model::stores_inputs_first(job.model)) {
    throw InputError(fmt::format(
        "adapter.base_weights is \"nf4\", which goes along rows of inputs, and the model "
        "(model_type \"{}\") stores its matrices inputs first; legal: \"full\"",
        job.model.model_type));
  }
  if (adapter.lora.dropout > 0.0) check_token_numbers(job, "adapter.dropout");
}

void refuse_another_adapter(const Job& job, const model::LoraConfig& files) {
  const model::LoraConfig& given = job.adapter.lora;
  const char* const key = given.rank != files.rank                         ? "rank"
                          : given.alpha != files.alpha                     ? "alpha"
                          : given.target_modules != files.target_modules   ? "target_modules"
                          : given.rank_stabilized != files.rank_stabilized ? "rank_stabilized"
                                                                           : nullptr;
  if (key == nullptr) return;
  throw InputError(
      fmt::format("adapter.{} is not what adapter_config.json of adapter.from \"{}\" says: its "
                  "weights are for that; leave the key out",
                  key, job.adapter.from));
}

}  // namespace longspan::train
