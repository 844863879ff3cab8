#include "longspan/nn/cross_attention.h"

#include <cmath>
#include <utility>

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

namespace {

backend::AttentionOptions options_of(Index head_dim) {
  return {.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim))),
          .causal = false};
}

}  // namespace

/// Views: [tokens, heads, head_dim].
struct CrossAttention::Heads {
  Tensor q;
  Tensor k;
  Tensor v;
};

CrossAttention::CrossAttention(ParameterSet& parameters, const std::string& name, Index hidden,
                               Index heads)
    : hidden_(hidden),
      heads_(heads),
      query_(parameters, {{name + ".query", hidden}}, hidden),
      key_value_(parameters, {{name + ".key_value", 2 * hidden}}, hidden),
      output_(parameters, {{name + ".output", hidden}}, hidden) {}

CrossAttention::Heads CrossAttention::heads_of(const Tensor& q, const Tensor& kv) const {
  const Index width = hidden_ / heads_;
  const auto split = [&](const Tensor& all) { return all.reshape({all.size(0), heads_, width}); };
  return {split(q), split(kv.columns(0, hidden_)), split(kv.columns(hidden_, 2 * hidden_))};
}

void CrossAttention::forward(const Tensor& out, const Tensor& x, const Context& context, bool keeps,
                             Pass& pass) const {
  const auto make = [&](const backend::Shape& shape) {
    return keeps ? pass.saved(shape) : pass.workspace(shape);
  };
  const backend::Shape lse_shape{heads_, x.size(0)};
  Tensor q = make(x.shape());
  Tensor kv = make({context.rows.size(0), 2 * hidden_});
  Tensor attended = make(x.shape());
  Tensor lse = keeps ? pass.saved_statistics(lse_shape) : pass.workspace_statistics(lse_shape);
  query_.forward(q, x, pass);
  key_value_.forward(kv, context.rows, pass);
  const Heads heads = heads_of(q, kv);
  pass.backend().attention_forward(attended.reshape(heads.q.shape()), lse, heads.q, heads.k,
                                   heads.v, context.queries, context.keys,
                                   options_of(hidden_ / heads_));
  output_.forward(out, attended, pass);
  if (!keeps) return;
  pass.push(std::move(q));
  pass.push(std::move(kv));
  pass.push(std::move(attended));
  pass.push(std::move(lse));
}

void CrossAttention::backward(const Tensor& dx, const Tensor& dcontext, const Tensor& dy,
                              const Tensor& x, const Context& context, Pass& pass) const {
  const Tensor lse = pass.pop();
  const Tensor attended = pass.pop();
  const Tensor kv = pass.pop();
  const Tensor q = pass.pop();
  const Tensor dattended = pass.workspace(x.shape());
  output_.backward(dattended, dy, attended, pass);
  const Tensor dq = pass.workspace(x.shape());
  const Tensor dkv = pass.workspace(kv.shape());
  const Heads heads = heads_of(q, kv);
  const Heads gradients = heads_of(dq, dkv);
  pass.backend().attention_backward(
      gradients.q, gradients.k, gradients.v, dattended.reshape(heads.q.shape()),
      attended.reshape(heads.q.shape()), lse, heads.q, heads.k, heads.v, context.queries,
      context.keys, options_of(hidden_ / heads_));
  query_.backward(dx, dq, x, pass);
  const Tensor of_context = pass.workspace(context.rows.shape());
  key_value_.backward(of_context, dkv, context.rows, pass);
  pass.backend().accumulate(dcontext, of_context);
}

}  // namespace longspan::nn
