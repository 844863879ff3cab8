// GPT-2 (Radford et al. 2019): layer norm, learned positions, biases everywhere, GELU, and a head
// that is the embedding. transformers stores its matrices inputs first ("Conv1D").
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/family.h"

namespace longspan::model {

namespace {

Composition compose(const ModelConfig& config) {
  const nn::LinearOptions inner{.has_bias = true, .inputs_first = true};
  // Each block adds two projections to the residual stream, whose variance is not to grow with
  // their number.
  nn::LinearOptions residual = inner;
  residual.initial_scale = 1.0 / std::sqrt(2.0 * static_cast<double>(config.num_hidden_layers));
  Composition composition;
  composition.embedding = "transformer.wte";
  composition.learned_positions = "transformer.wpe";
  composition.blocks = "transformer.h.";
  composition.norms = {.kind = NormKind::kLayer,
                       .epsilon = config.layer_norm_epsilon,
                       .attention = "ln_1",
                       .mlp = "ln_2",
                       .last = "transformer.ln_f"};
  composition.attention = {.qkv = {"attn.c_attn"},
                           .output = "attn.c_proj",
                           .qkv_options = inner,
                           .output_options = residual,
                           .is_rotary = false};
  composition.activation = nn::Activation::kGeluTanh;
  composition.mlp = {
      .up = {"mlp.c_fc"}, .down = "mlp.c_proj", .up_options = inner, .down_options = residual};
  composition.layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
  return composition;
}

void read(ConfigReader& reader, ModelConfig& config) {
  reader.require("activation_function", {"gelu_new", "gelu_pytorch_tanh"});  // two names of one
  reader.require("scale_attn_weights", {true});
  reader.require("scale_attn_by_inverse_layer_idx", {false});
  // How precisely attention is summed: here always in 32 bits. Dropout is of training alone, and we
  // train without it. The summary is of another head.
  reader.ignore({"reorder_and_upcast_attn", "resid_pdrop", "embd_pdrop", "attn_pdrop",
                 "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
                 "summary_first_dropout"});
  config.vocab_size = reader.integer("vocab_size");
  config.hidden_size = reader.integer("n_embd");
  config.intermediate_size = reader.size("n_inner", 4 * config.hidden_size);
  config.num_hidden_layers = reader.integer("n_layer");
  config.num_attention_heads = reader.integer("n_head");
  config.max_position_embeddings = reader.size("n_positions", 1024);
  reader.require("n_ctx", {config.max_position_embeddings});  // the same, in old files
  config.layer_norm_epsilon = reader.positive("layer_norm_epsilon", 1e-5);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", true);
  config.initializer_range = reader.real("initializer_range", 0.02);
}

void write(const ModelConfig& config, nlohmann::ordered_json& out) {
  out["vocab_size"] = config.vocab_size;
  out["n_embd"] = config.hidden_size;
  out["n_inner"] = config.intermediate_size;
  out["n_layer"] = config.num_hidden_layers;
  out["n_head"] = config.num_attention_heads;
  out["n_positions"] = config.max_position_embeddings;
  out["n_ctx"] = config.max_position_embeddings;
  out["layer_norm_epsilon"] = config.layer_norm_epsilon;
  out["tie_word_embeddings"] = *config.tie_word_embeddings;
  out["initializer_range"] = config.initializer_range;
  out["activation_function"] = "gelu_new";
  out["scale_attn_weights"] = true;
  out["scale_attn_by_inverse_layer_idx"] = false;
  out["reorder_and_upcast_attn"] = false;
  // transformers would drop a tenth where these are not there.
  out["resid_pdrop"] = 0.0;
  out["embd_pdrop"] = 0.0;
  out["attn_pdrop"] = 0.0;
}

}  // namespace

Family gpt2() {
  return {.model_type = "gpt2",
          .architecture = "GPT2LMHeadModel",
          .description = "LayerNorm, learned positions, biases, GELU, tied head",
          .numbers = {{"layer_norm_epsilon", 1e-5}},
          .max_position_embeddings = 1024,
          .tying = Tying::kAlways,
          .has_plain_heads = true,
          .names_in_file = {{"hidden_size", "n_embd"},
                            {"intermediate_size", "n_inner"},
                            {"num_hidden_layers", "n_layer"},
                            {"num_attention_heads", "n_head"},
                            {"max_position_embeddings", "n_positions"}},
          .prefix_in_files = "transformer.",
          .ignored_tensors = {".attn.bias", ".attn.masked_bias"},  // the causal mask
          .compose = compose,
          .read = read,
          .write = write};
}

}  // namespace longspan::model
