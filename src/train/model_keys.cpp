#include "train/model_keys.h"

#include "train/key_limits.h"

namespace longspan::train {

using base::Declarations;

namespace {

void declare_model_sizes(model::ModelConfig& model, Declarations& keys) {
  keys.integer("model.vocab_size", model.vocab_size,
               "Token ids the model knows; at least as many as the tokenizer has.")
      .required_unless("model.from")
      .at_least(1)
      .at_most(kMaxInt32)
      .known_elsewhere_as({"n_vocab", "padded_vocab_size"});
  keys.integer("model.hidden_size", model.hidden_size, "Width of the residual stream.")
      .required_unless("model.from")
      .at_least(1)
      .at_most(kMaxWidth)
      .known_elsewhere_as({"n_embd", "d_model", "dim", "embedding_size"});
  keys.integer("model.intermediate_size", model.intermediate_size,
               "Width of the MLP between its projections.")
      .required_unless("model.from")
      .at_least(1)
      .at_most(kMaxWidth)
      .known_elsewhere_as({"ffn_hidden_size", "d_ff", "n_inner", "mlp_size"});
  keys.integer("model.num_hidden_layers", model.num_hidden_layers, "Blocks.")
      .required_unless("model.from")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"n_layer", "n_layers", "num_layers", "layers", "depth"});
  keys.integer("model.num_attention_heads", model.num_attention_heads, "Query heads.")
      .required_unless("model.from")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"n_head", "n_heads", "num_heads", "heads"});
  keys.integer("model.num_key_value_heads", model.num_key_value_heads,
               "Key and value heads; they divide the query heads, which share them.")
      .at_least(1)
      .at_most(kMaxCount)
      .may_be_absent("as many as num_attention_heads")
      .known_elsewhere_as({"n_kv_head", "n_kv_heads", "num_kv_heads", "num_query_groups"});
  keys.integer("model.head_dim", model.head_dim, "Width of one head; with rotary positions even.")
      .at_least(1)
      .at_most(kMaxCount)
      .may_be_absent("hidden_size / num_attention_heads; " + model::family_defaults("head_dim"))
      .known_elsewhere_as({"head_size", "kv_channels"});
}

/// What not all families have, or not with the same default: left out, the family decides.
void declare_family_keys(model::ModelConfig& model, Declarations& keys) {
  keys.integer("model.max_position_embeddings", model.max_position_embeddings,
               "Longest sequence the model is made for; of learned positions, how many there are.")
      .at_least(1)
      .at_most(kMaxInt32)
      .unit("tokens")
      .may_be_absent(model::family_defaults("max_position_embeddings"))
      .known_elsewhere_as({"n_positions", "n_ctx", "max_seq_len", "max_sequence_length"});
  keys.real("model.rms_norm_eps", model.rms_norm_eps,
            "Added to the mean square in RMSNorm, of families that have it.")
      .above(0)
      .may_be_absent(model::family_defaults("rms_norm_eps"))
      .known_elsewhere_as({"norm_eps", "norm_epsilon"});
  keys.real("model.layer_norm_epsilon", model.layer_norm_epsilon,
            "Added to the variance in LayerNorm, of families that have it.")
      .above(0)
      .may_be_absent(model::family_defaults("layer_norm_epsilon"))
      .known_elsewhere_as({"layer_norm_eps", "layernorm_epsilon"});
  keys.real("model.rope_theta", model.rope_theta,
            "Base of the rotary frequencies, of families that have them.")
      .above(0)
      .may_be_absent(model::family_defaults("rope_theta"))
      .known_elsewhere_as({"rope_base", "rotary_base"});
  keys.real("model.rope_local_base_freq", model.rope_local_base_freq,
            "rope_theta of layers with a window, of families where those have their own.")
      .above(0)
      .may_be_absent(model::family_defaults("rope_local_base_freq"));
  keys.boolean("model.tie_word_embeddings", model.tie_word_embeddings,
               "Whether the head uses the embedding's weights.")
      .may_be_absent(model::family_defaults("tie_word_embeddings"))
      .known_elsewhere_as({"tie_embeddings", "tied", "weight_tying"});
}

/// Windows and what is done to scores and logits, of families that have them.
void declare_attention_keys(model::ModelConfig& model, Declarations& keys) {
  keys.integer(
          "model.sliding_window", model.sliding_window,
          "Keys that a query sees at most, its own included, in the layers that have a window; "
          "0: none has.")
      .at_least(0)
      .at_most(kMaxInt32)
      .unit("tokens")
      .may_be_absent(model::family_defaults("sliding_window"))
      .known_elsewhere_as({"window_size", "attention_window", "window"});
  keys.real("model.query_pre_attn_scalar", model.query_pre_attn_scalar,
            "Scores of attention are divided by its root.")
      .above(0)
      .may_be_absent(model::family_defaults("query_pre_attn_scalar"));
  keys.real("model.attn_logit_softcapping", model.attn_logit_softcapping,
            "Soft cap of the scores of attention; 0: none.")
      .at_least(0)
      .may_be_absent(model::family_defaults("attn_logit_softcapping"));
  keys.real("model.final_logit_softcapping", model.final_logit_softcapping,
            "Soft cap of the logits; 0: none.")
      .at_least(0)
      .may_be_absent(model::family_defaults("final_logit_softcapping"));
}

void declare_rope_scaling(model::RopeScaling& scaling, Declarations& keys) {
  keys.section("model.rope_scaling",
               "Rotary positions beyond the length a model was first trained for.");
  keys.choice("model.rope_scaling.rope_type", scaling.rope_type,
              {{"default", "none"},
               {"linear", "all frequencies divided by the factor"},
               {"llama3", "the low frequencies, as Llama 3.1 has it"},
               {"yarn", "the low frequencies by a ramp, and scores scaled (Peng et al. 2023)"}},
              "Which frequencies are lowered, and how.")
      .known_elsewhere_as({"type"});
  const auto number = [&keys](const char* name, double& target, const char* help,
                              const char* absent) {
    keys.real(std::string("model.rope_scaling.") + name, target, help)
        .above(0)
        .may_be_absent(absent);
  };
  const char* const needed = "needed by linear, llama3, yarn";
  number("factor", scaling.factor, "How many times as long sequences may be.", needed);
  keys.integer("model.rope_scaling.original_max_position_embeddings",
               scaling.original_max_position_embeddings,
               "The length that a model was first trained for.")
      .at_least(1)
      .at_most(kMaxInt32)
      .unit("tokens")
      .may_be_absent("needed by llama3 and yarn; of model.from: its max_position_embeddings");
  number("low_freq_factor", scaling.low_freq_factor,
         "llama3: frequencies that turn less often than this within the first length are lowered.",
         "1 (llama3)");
  number("high_freq_factor", scaling.high_freq_factor,
         "llama3: frequencies that turn more often than this stay.", "4 (llama3)");
  number("beta_fast", scaling.beta_fast,
         "yarn: pairs that turn more often than this within the first length stay.", "32 (yarn)");
  number("beta_slow", scaling.beta_slow, "yarn: pairs that turn less often are lowered.",
         "1 (yarn)");
  number("attention_factor", scaling.attention_factor, "yarn: what queries and keys are scaled by.",
         "0.1 ln(factor) + 1 (yarn)");
}

}  // namespace

void declare_model(std::string& from, model::ModelConfig& model, Declarations& keys) {
  keys.section("model", "The model, with the names that config.json has in most families.");
  keys.path("model.from", from,
            "Directory of a model to begin with, as Hugging Face publishes them: config.json, "
            "safetensors, tokenizer. Its config.json gives all other keys of this section; of "
            "these, rope_theta, rope_scaling and (but for learned positions) "
            "max_position_embeddings may be changed here.")
      .at_least(1)
      .may_be_absent("new weights")
      .known_elsewhere_as({"init_from", "model_name_or_path", "pretrained", "base_model"});
  keys.choice("model.model_type", model.model_type, model::model_types(), "Family of the model.")
      .known_elsewhere_as({"architecture", "architectures", "family"});
  declare_model_sizes(model, keys);
  declare_family_keys(model, keys);
  declare_attention_keys(model, keys);
  keys.real("model.initializer_range", model.initializer_range,
            "Standard deviation of the initial weights.")
      .above(0)
      .known_elsewhere_as({"init_std", "init_method_std"});
  declare_rope_scaling(model.rope_scaling, keys);
}

}  // namespace longspan::train
