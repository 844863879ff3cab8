#include "longspan/model/clip_model.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/model/clip_conditioning.h"
#include "longspan/nn/axis_switch.h"
#include "longspan/nn/embedding.h"
#include "model/clip_block.h"

namespace longspan::model {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using shard::ClipAxis;

void ClipConfig::check() const {
  const auto refuse = [](const std::string& what) { throw base::InputError("model." + what); };
  if (num_attention_heads < 1 || hidden_size % num_attention_heads != 0 || head_dim() % 2 != 0) {
    refuse(
        fmt::format("num_attention_heads is {}; legal: what divides hidden_size {} into heads "
                    "of even width",
                    num_attention_heads, hidden_size));
  }
  if (hidden_size % 4 != 0) {
    refuse(fmt::format("hidden_size is {}; legal: multiples of 4", hidden_size));
  }
  if (num_classes > 0 && class_tokens < 1) refuse("class_tokens is 0, but there are classes");
}

namespace {

/// Sinusoids of a place's row in one half of the features, of its column in the other.
std::vector<double> place_table(const ClipPatches& clip, Index hidden) {
  const Index quarter = hidden / 4;
  std::vector<double> table;
  for (Index place = 0; place < clip.rows * clip.columns; ++place) {
    for (const Index at : {place / clip.columns, place % clip.columns}) {
      for (const bool is_cosine : {false, true}) {
        for (Index i = 0; i < quarter; ++i) {
          const double frequency =
              std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(quarter));
          const double angle = static_cast<double>(at) * frequency;
          table.push_back(is_cosine ? std::cos(angle) : std::sin(angle));
        }
      }
    }
  }
  return table;
}

/// Of a layout's rank along an axis: the rows of each clip, where sequences along the other axis
/// begin and end, and each token's number in its sequence.
struct Sequences {
  nn::ClipRows rows;
  backend::CuSeqlens cu_seqlens{0};
  std::vector<std::int32_t> positions;
};

Sequences sequences_of(const shard::ClipLayout& layout, ClipAxis axis, int rank) {
  Sequences sequences;
  Index begin = 0;
  for (std::size_t clip = 0; clip < layout.clips().size(); ++clip) {
    const shard::ClipGrid& grid = layout.clips()[clip];
    const Index length = axis == ClipAxis::kFrames ? grid.places : grid.frames;
    const Index held = layout.held(clip, axis, rank);
    for (Index i = 0; i < held; ++i) {
      for (Index at = 0; at < length; ++at) {
        sequences.positions.push_back(static_cast<std::int32_t>(at));
      }
      sequences.cu_seqlens.push_back(static_cast<std::int32_t>(begin + (i + 1) * length));
    }
    sequences.rows.push_back({begin, begin + held * length});
    begin += held * length;
  }
  return sequences;
}

}  // namespace

class ClipModel::Impl {
 public:
  Impl(const ClipConfig& config, base::DType dtype, backend::Backend& backend,
       bool keeps_inputs_alone, const nn::Placement& placement)
      : config_(config),
        dtype_(dtype),
        backend_(&backend),
        embed_(parameters_, {{"embed", config.hidden_size}}, config.patch_numbers(),
               {.has_bias = true}),
        conditioning_(parameters_, config) {
    config.check();
    if (keeps_inputs_alone) memory_ = {true, nn::MiniSequence::count(1)};
    if (config.num_classes > 0) {
      classes_.emplace(parameters_, "classes", config.num_classes * config.class_tokens,
                       config.hidden_size);
    }
    for (Index pair = 0; pair < config.num_hidden_layers; ++pair) {
      for (const ClipAttention attention : {ClipAttention::kSpatial, ClipAttention::kTemporal}) {
        const char* name = attention == ClipAttention::kSpatial ? "spatial" : "temporal";
        parameters_.begin_unit();
        blocks_.emplace_back(parameters_, fmt::format("blocks.{}.{}.", pair, name), config,
                             attention);
      }
    }
    parameters_.begin_unit();
    last_.emplace(parameters_, "last.modulation", config.hidden_size, config.norm_epsilon);
    head_.emplace(parameters_, std::vector<nn::Linear::Part>{{"last.head", config.patch_numbers()}},
                  config.hidden_size, nn::LinearOptions{.has_bias = true, .initial_scale = 0.0});
    parameters_.allocate(backend, dtype, placement);
  }

  const ClipConfig& config() const { return config_; }
  nn::ParameterSet& parameters() { return parameters_; }

  LossResult run(const ClipBatch& batch, double loss_scale, bool trains,
                 std::vector<float>* predictions) {
    Step step(*this, batch, trains);
    return step.run(loss_scale, predictions);
  }

 private:
  /// A micro-batch on its way.
  class Step;

  ClipConfig config_;
  base::DType dtype_;
  backend::Backend* backend_;
  ClipBlockMemory memory_;
  nn::ParameterSet parameters_;
  nn::Linear embed_;
  ClipConditioning conditioning_;
  std::optional<nn::Embedding> classes_;
  std::vector<ClipBlock> blocks_;
  std::optional<nn::Modulation> last_;
  std::optional<nn::Linear> head_;
};
