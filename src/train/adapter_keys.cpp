#include "train/adapter_keys.h"

#include <fmt/format.h>

#include "longspan/base/error.h"
#include "longspan/nn/lora.h"
#include "train/gradient_keys.h"
#include "train/key_limits.h"

namespace longspan::train {

using base::InputError;

std::optional<model::LoraConfig> Job::lora() const {
  if (adapter.type != "lora") return std::nullopt;
  model::LoraConfig lora = adapter.lora;
  lora.packs_base = adapter.base_weights == "nf4";
  return lora;
}

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
