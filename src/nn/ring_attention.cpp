#include "nn/ring_attention.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "nn/documents.h"

namespace longspan::nn {

using backend::CuSeqlens;
using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using shard::Range;

/// Keys and values of one place, or their gradients, in one dense buffer that travels.
class RingAttention::Block {
 public:
  Block() = default;
  Block(Pass& pass, base::DType dtype, const Shape& shape)
      : shape_(shape),
        data_(pass.backend().allocate({2 * shape.elements()}, dtype, MemoryTag::kCommunication)) {}

  const Tensor& data() const { return data_; }
  Tensor k() const { return data_.rows(0, shape_.elements()).reshape(shape_); }
  Tensor v() const { return data_.rows(shape_.elements(), data_.elements()).reshape(shape_); }

 private:
  Shape shape_;
  Tensor data_;
};

/// A block's way around: passes the one that is here on, while the one before comes.
class RingAttention::Circuit {
 public:
  Circuit(const RingAttention& ring, base::DType dtype, const Shape& shape)
      : ring_(&ring), dtype_(dtype), heads_(shape[1]), head_dim_(shape[2]) {}

  Block make(int source) const {
    return {*ring_->pass_, dtype_, {ring_->parts_->size(source), heads_, head_dim_}};
  }
  /// Sends `here`; what comes is `source`'s.
  void start(const Block& here, int source) {
    comm::Communicator& group = *ring_->ring_;
    const int last = (group.rank() + group.size() - 1) % group.size();
    const int next = (group.rank() + 1) % group.size();
    coming_ = make(source);
    pending_ =
        group.start_send_receive(coming_.data(), last, here.data(), next, ring_->pass_->backend());
  }
  /// What came, once; nothing was started: `here` stays.
  void finish(Block& here) {
    if (!pending_) return;
    std::exchange(pending_, nullptr)->wait();
    here = std::exchange(coming_, {});
  }

 private:
  const RingAttention* ring_;
  base::DType dtype_;
  Index heads_;
  Index head_dim_;
  Block coming_;
  std::unique_ptr<comm::Pending> pending_;
};

RingAttention::RingAttention(const HeadRuns& runs, const backend::AttentionOptions& options,
                             Pass& pass)
    : runs_(&runs),
      options_(options),
      pass_(&pass),
      parts_(&pass.shard()->layout.parts()),
      ring_(pass.shard()->ring) {}

int RingAttention::source(int step) const {
  return (ring_->rank() - step % ring_->size() + ring_->size()) % ring_->size();
}

/// Causal: ranges of different places do not overlap, so a query sees all of another place's range,
/// or nothing; and as ranges ascend, what it sees is the first ones.
std::vector<RingAttention::Visit> RingAttention::visits(int source) const {
  const std::vector<Range>& mine = parts_->ranges(ring_->rank());
  const std::vector<Range>& theirs = parts_->ranges(source);
  const CuSeqlens& documents = pass_->cu_seqlens();
  const Index tokens = parts_->size(ring_->rank());
  if (source == ring_->rank()) {
    const CuSeqlens inside = documents_in(documents, mine);
    return {{{0, tokens}, tokens, inside, inside, options_.causal}};
  }
  if (!options_.causal) {
    return {{{0, tokens},
             parts_->size(source),
             documents_in(documents, mine),
             documents_in(documents, theirs),
             false}};
  }
  std::vector<Visit> visits;
  std::vector<Range> asking;  // the ranges of the last visit's queries
  Index before = 0;
  for (const Range& queries : mine) {
    std::vector<Range> seen;
    Index keys = 0;
    for (const Range& range : theirs) {
      if (range.begin >= queries.begin) continue;
      seen.push_back(range);
      keys += range.size();
    }
    const Range rows{before, before + queries.size()};
    before = rows.end;
    if (keys == 0) continue;
    // Queries that see the same keys as those before go into one call with them.
    if (visits.empty() || visits.back().keys != keys) {
      visits.push_back({{rows.begin, rows.begin}, keys, {}, documents_in(documents, seen), false});
      asking.clear();
    }
    asking.push_back(queries);
    visits.back().queries.end = rows.end;
    visits.back().cu_seqlens_q = documents_in(documents, asking);
  }
  return visits;
}

backend::AttentionOptions RingAttention::options_of(const Visit& visit) const {
  backend::AttentionOptions options = options_;
  options.causal = visit.causal;
  return options;
}

void RingAttention::forward(const Tensor& out, const Tensor& lse, const Heads& in) const {
  backend::Backend& backend = pass_->backend();
  const bool in_place = pass_->dtype() == pass_->statistic_dtype();
  const Tensor sum = in_place ? out : pass_->workspace_statistics(out.shape());
  const Tensor block_out = pass_->workspace(out.shape());
  const Tensor block_lse = pass_->workspace_statistics(lse.shape());
  Circuit circuit(*this, pass_->dtype(), in.k.shape());
  Block keys = circuit.make(source(0));
  backend.copy_all({keys.k(), keys.v()}, {in.k, in.v});
  for (int step = 0; step < ring_->size(); ++step) {
    if (step + 1 < ring_->size()) circuit.start(keys, source(step + 1));
    for (const Visit& visit : visits(source(step))) {
      const Heads seen{rows_of(in.q, visit.queries), keys.k().rows(0, visit.keys),
                       keys.v().rows(0, visit.keys)};
      if (step == 0) {  // its own keys, which every query sees one of
        runs_->forward(backend, out, lse, seen, visit.cu_seqlens_q, visit.cu_seqlens_k,
                       options_of(visit));
        if (!in_place) backend.copy(sum, out);
        continue;
      }
      const Range rows{0, visit.queries.size()};
      runs_->forward(backend, rows_of(block_out, rows), tokens_of(block_lse, rows), seen,
                     visit.cu_seqlens_q, visit.cu_seqlens_k, options_of(visit));
      backend.attention_merge(rows_of(sum, visit.queries), tokens_of(lse, visit.queries),
                              rows_of(block_out, rows), tokens_of(block_lse, rows));
    }
    circuit.finish(keys);
  }
  if (!in_place) backend.copy(out, sum);
}

void RingAttention::backward(const Heads& d, const Tensor& dout, const Tensor& out,
                             const Tensor& lse, const Heads& in) const {
  backend::Backend& backend = pass_->backend();
  const bool in_place = pass_->dtype() == pass_->statistic_dtype();
  const Tensor dq = in_place ? d.q : pass_->workspace_statistics(d.q.shape());
  backend.zero(dq);
  Circuit circuit(*this, pass_->dtype(), in.k.shape());
  Circuit way_home(*this, pass_->statistic_dtype(), in.k.shape());
  Block keys = circuit.make(source(0));
  backend.copy_all({keys.k(), keys.v()}, {in.k, in.v});
  Block gradient = way_home.make(source(0));
  backend.zero(gradient.data());
  for (int step = 0; step < ring_->size(); ++step) {
    if (step + 1 < ring_->size()) circuit.start(keys, source(step + 1));
    way_home.finish(gradient);
    for (const Visit& visit : visits(source(step))) {
      add_gradients(gradient, dq, visit, keys, dout, out, lse, in);
    }
    way_home.start(gradient, source(step + 1));
    circuit.finish(keys);
  }
  way_home.finish(gradient);
  if (!in_place) backend.copy(d.q, dq);
  backend.copy(d.k, gradient.k());
  backend.copy(d.v, gradient.v());
}

/// Of one visit: to the queries' gradient, and to that of the keys that are here.
void RingAttention::add_gradients(const Block& gradient, const Tensor& dq, const Visit& visit,
                                  const Block& keys, const Tensor& dout, const Tensor& out,
                                  const Tensor& lse, const Heads& in) const {
  backend::Backend& backend = pass_->backend();
  const Range seen{0, visit.keys};
  const Tensor q = rows_of(in.q, visit.queries);
  const Heads part{q, rows_of(keys.k(), seen), rows_of(keys.v(), seen)};
  const Heads d{pass_->workspace(q.shape()), pass_->workspace(part.k.shape()),
                pass_->workspace(part.v.shape())};
  runs_->backward(backend, d, rows_of(dout, visit.queries), rows_of(out, visit.queries),
                  tokens_of(lse, visit.queries), part, visit.cu_seqlens_q, visit.cu_seqlens_k,
                  options_of(visit));
  backend.accumulate(rows_of(dq, visit.queries), d.q);
  backend.accumulate(rows_of(gradient.k(), seen), d.k);
  backend.accumulate(rows_of(gradient.v(), seen), d.v);
}

}  // namespace longspan::nn
