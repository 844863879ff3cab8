#include "model/composition.h"

#include "longspan/nn/layer_norm.h"
#include "longspan/nn/rms_norm.h"

namespace longspan::model {

namespace {

/// Sizes as doubles.
struct Sizes {
  explicit Sizes(const ModelConfig& config)
      : vocab(static_cast<double>(config.vocab_size)),
        hidden(static_cast<double>(config.hidden_size)),
        inner(static_cast<double>(config.intermediate_size)),
        layers(static_cast<double>(config.num_hidden_layers)),
        positions(static_cast<double>(config.max_position_embeddings)),
        head_dim(static_cast<double>(config.head_dim)),
        heads(static_cast<double>(config.num_attention_heads) *
              static_cast<double>(config.head_dim)),
        kv_heads(static_cast<double>(config.num_key_value_heads) *
                 static_cast<double>(config.head_dim)) {}

  double qkv() const { return heads + 2.0 * kv_heads; }

  double vocab;
  double hidden;
  double inner;
  double layers;
  double positions;
  double head_dim;
  double heads;     // width of the queries
  double kv_heads;  // and of the keys
};

double up_width(const Sizes& sizes, const Composition& composition) {
  return (composition.activation == nn::Activation::kGeluTanh ? 1.0 : 2.0) * sizes.inner;
}

double block_biases(const Sizes& sizes, const Composition& composition) {
  const auto of = [](const nn::LinearOptions& options, double outputs) {
    return options.has_bias ? outputs : 0.0;
  };
  return of(composition.attention.qkv_options, sizes.qkv()) +
         of(composition.attention.output_options, sizes.hidden) +
         of(composition.mlp.up_options, up_width(sizes, composition)) +
         of(composition.mlp.down_options, sizes.hidden);
}

/// Parameters of the norms that attention and MLP of a block have themselves.
double inner_norms(const Sizes& sizes, const Composition& composition) {
  const auto of = [](const std::string& name, double width) { return name.empty() ? 0.0 : width; };
  return of(composition.attention.query_norm, sizes.head_dim) +
         of(composition.attention.key_norm, sizes.head_dim) +
         of(composition.attention.output_norm, sizes.hidden) +
         of(composition.mlp.output_norm, sizes.hidden);
}

}  // namespace

std::unique_ptr<nn::Norm> make_norm(nn::ParameterSet& parameters, const Composition& composition,
                                    const std::string& name, const ModelConfig& config) {
  if (composition.norms.kind == NormKind::kLayer) {
    return std::make_unique<nn::LayerNorm>(parameters, name, config.hidden_size,
                                           composition.norms.epsilon);
  }
  return std::make_unique<nn::RmsNorm>(
      parameters, name, config.hidden_size,
      backend::RmsNormOptions{static_cast<float>(composition.norms.epsilon),
                              static_cast<float>(composition.norms.weight_offset)});
}

double block_matmul_weights(const ModelConfig& config, const Composition& composition) {
  const Sizes sizes(config);
  return sizes.hidden * (sizes.qkv() + sizes.heads + up_width(sizes, composition) + sizes.inner);
}

double all_parameters(const ModelConfig& config, const Composition& composition) {
  const Sizes sizes(config);
  const double norm =
      composition.norms.kind == NormKind::kLayer ? 2.0 * sizes.hidden : sizes.hidden;
  const double block = block_matmul_weights(config, composition) +
                       block_biases(sizes, composition) + 2.0 * norm +
                       inner_norms(sizes, composition);
  const double tables = (composition.is_tied() ? 1.0 : 2.0) * sizes.vocab * sizes.hidden;
  const double positions =
      composition.learned_positions.empty() ? 0.0 : sizes.positions * sizes.hidden;
  return tables + positions + sizes.layers * block + norm;
}

}  // namespace longspan::model
