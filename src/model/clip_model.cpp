#include "longspan/model/clip_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/model/clip_conditioning.h"
#include "longspan/nn/axis_switch.h"
#include "longspan/nn/embedding.h"
#include "model/clip_block.h"
#include "model/clip_tokens.h"

namespace longspan::model {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using shard::ClipOrder;

namespace {

/// Sines, then cosines, of the numbers [0, count) in frequencies from 1 on down, [count, 2 *
/// frequencies]: what is added to a token for its row, and for its column.
std::vector<double> place_table(Index count, Index frequencies) {
  std::vector<double> table;
  for (Index number = 0; number < count; ++number) {
    for (const bool is_cosine : {false, true}) {
      for (Index i = 0; i < frequencies; ++i) {
        const double angle =
            static_cast<double>(number) *
            std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(frequencies));
        table.push_back(is_cosine ? std::cos(angle) : std::sin(angle));
      }
    }
  }
  return table;
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
                 std::vector<float>* predictions);

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

class ClipModel::Impl::Step {
 public:
  Step(Impl& model, const ClipBatch& batch, bool trains)
      : model_(&model),
        batch_(&batch),
        trains_(trains),
        backend_(model.backend_),
        axes_(batch.layout(), batch.group, *model.backend_),
        by_frame_(clip_tokens(axes_.layout(), ClipOrder::kByFrame, axes_.rank())),
        by_place_(clip_tokens(axes_.layout(), ClipOrder::kByPlace, axes_.rank())),
        frames_(make_pass(by_frame_, ClipOrder::kByFrame)),
        places_(make_pass(by_place_, ClipOrder::kByPlace)) {
    check();
    places_.set_rope_tables({rope_table()});
  }

  LossResult run(double loss_scale, std::vector<float>* predictions) {
    Tensor x = begin();
    for (std::size_t number = 0; number < model_->blocks_.size(); ++number) {
      if (number > 0) x = between(x, number - 1, number);
      x = forward(number, x);
    }
    LossResult loss;
    Tensor d = end(std::move(x), loss_scale, loss, predictions);
    if (!trains_) return loss;
    const backend::Scope scope(*backend_, "backward");
    for (std::size_t number = model_->blocks_.size(); number-- > 0;) {
      backward(number, d);
      if (number > 0) d = between(d, number, number - 1);
    }
    finish(d);
    return loss;
  }

 private:
  static ClipOrder attends(std::size_t block) {
    return block % 2 == 0 ? ClipOrder::kByFrame : ClipOrder::kByPlace;
  }
  /// Of the residual stream.
  ClipOrder order_of(std::size_t block) const { return axes_.layout().residual(attends(block)); }
  ClipOrder first_order() const { return order_of(0); }
  ClipOrder last_order() const { return order_of(model_->blocks_.size() - 1); }
  nn::Pass& pass_of(ClipOrder order) { return order == ClipOrder::kByFrame ? frames_ : places_; }
  const ClipTokens& tokens_of(ClipOrder order) const {
    return order == ClipOrder::kByFrame ? by_frame_ : by_place_;
  }
  ClipBlockPasses passes_of(std::size_t block) {
    return {&pass_of(order_of(block)), &tokens_of(order_of(block)).rows, &pass_of(attends(block)),
            attends(block), &axes_};
  }

  void check() const {
    const std::size_t clips = batch_->clips.size();
    const auto numbers = static_cast<std::size_t>(model_->config_.patch_numbers());
    const bool has_classes = model_->classes_.has_value();
    const std::size_t first = tokens_of(first_order()).positions.size();
    const std::size_t last = tokens_of(last_order()).positions.size();
    if (batch_->times.size() != clips || batch_->classes.size() != (has_classes ? clips : 0) ||
        batch_->inputs.size() != first * numbers || batch_->targets.size() != last * numbers ||
        (!batch_->counts.empty() && batch_->counts.size() != last)) {
      throw base::InternalError("a batch of clips whose parts do not fit each other");
    }
    for (const std::int32_t label : batch_->classes) {
      if (label >= 0 && label < model_->config_.num_classes) continue;
      throw base::InputError(fmt::format("class {} of a clip is not in [0, {}) (num_classes)",
                                         label, model_->config_.num_classes));
    }
  }

  nn::Pass make_pass(const ClipTokens& tokens, ClipOrder order) const {
    return {*backend_,
            model_->dtype_,
            tokens.cu_seqlens,
            upload(tokens.positions),
            trains_ ? nn::Pass::Keep::kSlots : nn::Pass::Keep::kNothing,
            clip_shard(axes_.layout(), order, batch_->group)};
  }

  Tensor upload(const std::vector<std::int32_t>& numbers) const {
    const Tensor device = backend_->allocate({static_cast<Index>(numbers.size())},
                                             base::DType::kInt32, MemoryTag::kSaved);
    backend_->copy_from_host(device, numbers.data(), device.bytes());
    return device;
  }
  /// As rows of `columns` numbers, in the model's dtype.
  template <typename T>
  Tensor upload_rows(const std::vector<T>& numbers, Index columns, base::DType stored) const {
    const backend::Shape shape{static_cast<Index>(numbers.size()) / columns, columns};
    const Tensor exact = backend_->allocate(shape, stored, MemoryTag::kWorkspace);
    backend_->copy_from_host(exact, numbers.data(), exact.bytes());
    if (stored == model_->dtype_) return exact;
    const Tensor rows = frames_.saved(shape);
    backend_->copy(rows, exact);
    return rows;
  }

  Tensor rope_table() {
    const Index head_dim = model_->config_.head_dim();
    std::vector<double> inverse;
    for (Index i = 0; i < head_dim / 2; ++i) {
      inverse.push_back(std::pow(model_->config_.rope_theta,
                                 -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
    }
    const Tensor table = places_.saved_statistics({places_.tokens(), head_dim});
    backend_->rope_table(table, places_.positions(), inverse, 1.0);
    return table;
  }

  /// The residual stream of one block, or its gradient, as it lies in another.
  Tensor between(const Tensor& x, std::size_t from, std::size_t to) {
    const ClipOrder order = order_of(to);
    if (order == order_of(from)) return x;
    const backend::Scope scope(*backend_, "switch");
    const nn::Pass& pass = pass_of(order);
    Tensor out = pass.saved({pass.tokens(), x.size(1)});
    axes_.to(order, out, x);
    return out;
  }

  Tensor begin() {
    const backend::Scope scope(*backend_, "embedding");
    model_->parameters_.open(0, nn::Use::kWeights, 1);
    inputs_ = upload_rows(batch_->inputs, model_->config_.patch_numbers(), base::DType::kFloat32);
    nn::Pass& pass = pass_of(first_order());
    const Tensor x = pass.saved({pass.tokens(), model_->config_.hidden_size});
    model_->embed_.forward(x, inputs_, pass);
    add_places(x);
    told_ = model_->conditioning_.forward(batch_->times, frames_);
    conditions_.blocks = told_.blocks;
    if (trains_) conditions_.blocks_gradient = zeros_like(told_.blocks);
    if (model_->classes_) tell_classes();
    model_->parameters_.close(0);
    return x;
  }

  /// To one half of the features what the place's row says, to the other what its column does.
  void add_places(const Tensor& x) {
    Index most = 0;
    std::vector<std::int32_t> rows;
    std::vector<std::int32_t> columns;
    for (std::size_t clip = 0; clip < batch_->clips.size(); ++clip) {
      const ClipPatches& patches = batch_->clips[clip];
      most = std::max({most, patches.rows, patches.columns});
      const shard::ClipPart part = axes_.layout().part(clip, first_order(), axes_.rank());
      part.for_each(first_order(), [&](Index /*frame*/, Index place) {
        rows.push_back(static_cast<std::int32_t>(place / patches.columns));
        columns.push_back(static_cast<std::int32_t>(place % patches.columns));
      });
    }
    const Index half = x.size(1) / 2;
    const Tensor table = upload_rows(place_table(most, half / 2), half, base::DType::kFloat64);
    const Tensor told = frames_.workspace({x.size(0), half});
    const auto add = [&](const Tensor& features, const std::vector<std::int32_t>& numbers) {
      backend_->gather_rows(told, upload(numbers), table);
      backend_->add(features, features, told);
    };
    add(x.columns(0, half), rows);
    add(x.columns(half, 2 * half), columns);
  }

  Tensor zeros_like(const Tensor& tensor) const {
    const Tensor zeros = frames_.saved_statistics(tensor.shape());
    backend_->zero(zeros);
    return zeros;
  }

  void tell_classes() {
    const Index each = model_->config_.class_tokens;
    std::vector<std::int32_t> ids;
    for (const std::int32_t label : batch_->classes) {
      for (Index token = 0; token < each; ++token) {
        ids.push_back(static_cast<std::int32_t>(label * each + token));
      }
    }
    class_ids_ = upload(ids);
    nn::CrossAttention::Context& context = conditions_.classes;
    context.rows = frames_.saved({class_ids_.size(0), model_->config_.hidden_size});
    model_->classes_->forward(context.rows, class_ids_, frames_);
    context.keys = {0};
    for (std::size_t clip = 0; clip < batch_->clips.size(); ++clip) {
      context.keys.push_back(context.keys.back() + static_cast<std::int32_t>(each));
    }
    if (trains_) conditions_.classes_gradient = zeros_like(context.rows);
  }

  /// The clips' own rows, as the block has them.
  void set_queries(const nn::ClipRows& clips) {
    backend::CuSeqlens& queries = conditions_.classes.queries;
    queries = {0};
    for (const shard::Range& rows : clips) {
      queries.push_back(static_cast<std::int32_t>(rows.end));
    }
  }

  Tensor forward(std::size_t number, const Tensor& x) {
    const backend::Scope scope(*backend_, "block", static_cast<Index>(number));
    const int unit = 1 + static_cast<int>(number);
    model_->parameters_.open(unit, nn::Use::kWeights, unit + 1);
    const ClipBlockPasses passes = passes_of(number);
    set_queries(*passes.rows);
    const Tensor out = passes.residual->saved(x.shape());
    model_->blocks_[number].forward(out, x, conditions_, model_->memory_, passes);
    model_->parameters_.close(unit);
    return out;
  }

  void backward(std::size_t number, const Tensor& d) {
    const backend::Scope scope(*backend_, "block", static_cast<Index>(number));
    const int unit = 1 + static_cast<int>(number);
    model_->parameters_.open(unit, nn::Use::kBoth, unit - 1);
    const ClipBlockPasses passes = passes_of(number);
    set_queries(*passes.rows);
    model_->blocks_[number].backward(d, conditions_, model_->memory_, passes);
    model_->parameters_.close(unit);
  }

  /// The loss; returns the gradient of x where there is a backward.
  Tensor end(Tensor x, double loss_scale, LossResult& loss, std::vector<float>* predictions) {
    const backend::Scope scope(*backend_, "loss");
    const int unit = 1 + static_cast<int>(model_->blocks_.size());
    model_->parameters_.open(unit, trains_ ? nn::Use::kBoth : nn::Use::kWeights,
                             trains_ ? unit - 1 : nn::ParameterSet::kNoUnit);
    nn::Pass& pass = pass_of(last_order());
    const auto vectors = model_->last_->of(conditions_.blocks, tokens_of(last_order()).rows, pass);
    const Tensor normed = pass.workspace(x.shape());
    const Tensor statistics = pass.workspace_statistics({2, x.size(0)});
    model_->last_->norm(normed, statistics, x, vectors, 0, pass);
    const Tensor result = pass.workspace({x.size(0), model_->config_.patch_numbers()});
    model_->head_->forward(result, normed, pass);
    if (predictions != nullptr) download(*predictions, result);
    loss = compare(result, pass);
    if (trains_) {
      backend_->scale(result, 2.0 * loss_scale);
      const Tensor d = pass.saved(x.shape());
      model_->head_->backward(d, result, normed, pass);
      model_->last_->norm_backward(d, d, Tensor(), statistics, x, vectors, 0, pass);
      model_->last_->backward(conditions_.blocks_gradient, vectors, pass);
      x = d;
    }
    model_->parameters_.close(unit);
    return x;
  }

  /// Predictions become what they miss their targets by.
  LossResult compare(const Tensor& predictions, const nn::Pass& pass) {
    const Index numbers = predictions.size(1);
    const Tensor targets = upload_rows(batch_->targets, numbers, base::DType::kFloat32);
    const Tensor minus = pass.workspace({numbers});
    backend_->fill(minus, -1.0);
    backend_->add_product(predictions, predictions, targets, minus);
    auto counted = static_cast<double>(predictions.size(0));
    if (!batch_->counts.empty()) {
      counted = 0;
      for (const float count : batch_->counts) counted += static_cast<double>(count);
      const Tensor factors = pass.workspace_statistics({predictions.size(0)});
      const Tensor exact =
          backend_->allocate(factors.shape(), base::DType::kFloat32, MemoryTag::kWorkspace);
      backend_->copy_from_host(exact, batch_->counts.data(), exact.bytes());
      backend_->copy(factors, exact);
      backend_->scale_rows(predictions, factors);
    }
    return {backend_->sum_of_squares(predictions), static_cast<std::int64_t>(counted) * numbers};
  }

  void download(std::vector<float>& out, const Tensor& result) const {
    const Tensor exact =
        backend_->allocate(result.shape(), base::DType::kFloat32, MemoryTag::kWorkspace);
    backend_->copy(exact, result);
    out.resize(static_cast<std::size_t>(result.elements()));
    backend_->copy_to_host(out.data(), exact, exact.bytes());
  }

  void finish(const Tensor& d) {
    const backend::Scope scope(*backend_, "embedding");
    model_->parameters_.open(0, nn::Use::kBoth);
    model_->embed_.backward_weight(d, inputs_, pass_of(first_order()));
    const auto narrowed = [&](const Tensor& gradient) {
      const Tensor narrow = frames_.workspace(gradient.shape());
      backend_->copy(narrow, gradient);
      return narrow;
    };
    model_->conditioning_.backward(narrowed(conditions_.blocks_gradient), told_, frames_);
    if (model_->classes_) {
      model_->classes_->backward(narrowed(conditions_.classes_gradient), class_ids_, frames_);
    }
    model_->parameters_.close(0);
  }

  Impl* model_;
  const ClipBatch* batch_;
  bool trains_;
  backend::Backend* backend_;
  nn::AxisSwitch axes_;
  ClipTokens by_frame_;
  ClipTokens by_place_;
  nn::Pass frames_;
  nn::Pass places_;
  Tensor inputs_;
  ClipConditioning::Result told_;
  ClipConditions conditions_;
  Tensor class_ids_;
};

shard::ClipLayout ClipBatch::layout() const {
  std::vector<shard::ClipGrid> grids;
  for (const ClipPatches& clip : clips) grids.push_back(clip.grid());
  return {std::move(grids), group == nullptr ? 1 : group->size(), sharding, placement};
}

LossResult ClipModel::Impl::run(const ClipBatch& batch, double loss_scale, bool trains,
                                std::vector<float>* predictions) {
  return Step(*this, batch, trains).run(loss_scale, predictions);
}

ClipModel::ClipModel(const ClipConfig& config, base::DType dtype, backend::Backend& backend,
                     bool keeps_inputs_alone, const nn::Placement& placement)
    : impl_(std::make_unique<Impl>(config, dtype, backend, keeps_inputs_alone, placement)) {}

ClipModel::~ClipModel() = default;

const ClipConfig& ClipModel::config() const { return impl_->config(); }

nn::ParameterSet& ClipModel::parameters() { return impl_->parameters(); }

LossResult ClipModel::forward_backward(const ClipBatch& batch, double loss_scale) {
  return impl_->run(batch, loss_scale, /*trains=*/true, nullptr);
}

LossResult ClipModel::evaluate(const ClipBatch& batch, std::vector<float>* predictions) {
  return impl_->run(batch, 0.0, /*trains=*/false, predictions);
}

}  // namespace longspan::model
