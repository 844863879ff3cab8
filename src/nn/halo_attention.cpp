#include "nn/halo_attention.h"

#include <algorithm>
#include <utility>

#include "nn/documents.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;
using shard::Cover;
using shard::Range;

HaloAttention::HaloAttention(const HeadRuns& runs, const backend::AttentionOptions& options,
                             Pass& pass)
    : runs_(&runs),
      options_(options),
      pass_(&pass),
      parts_(&pass.shard()->layout.parts()),
      ring_(pass.shard()->ring),
      halo_(halo()) {}

Index HaloAttention::first_seen(const Range& queries) const {
  const backend::CuSeqlens& documents = pass_->cu_seqlens();
  const auto next = std::upper_bound(documents.begin(), documents.end(), queries.begin);
  const Index document = *std::prev(next);
  return std::max(document, queries.begin - options_.window + 1);
}

/// What each place is given: its own ranges, extended; such as touch become one.
Cover HaloAttention::halo() const {
  std::vector<std::vector<Range>> by_place;
  for (int place = 0; place < ring_->size(); ++place) {
    std::vector<Range>& given = by_place.emplace_back();
    for (const Range& own : parts_->ranges(place)) {
      const Index begin = first_seen(own);
      if (!given.empty() && begin <= given.back().end) {
        given.back().end = own.end;
      } else {
        given.push_back({begin, own.end});
      }
    }
  }
  return {parts_->extent(), std::move(by_place)};
}

std::vector<HaloAttention::Visit> HaloAttention::visits() const {
  const int place = ring_->rank();
  std::vector<Visit> visits;
  for (const Range& own : parts_->ranges(place)) {
    const Range seen{first_seen(own), own.end};
    const Index query = parts_->local(place, own.begin);
    const Index key = halo_.local(place, seen.begin);
    visits.push_back({{query, query + own.size()},
                      {key, key + seen.size()},
                      documents_in(pass_->cu_seqlens(), {own}),
                      documents_in(pass_->cu_seqlens(), {seen})});
  }
  return visits;
}

/// Of keys and values.
shard::ReshardPlan HaloAttention::plan(const Tensor& k) const {
  const shard::Move move{.shape = {parts_->extent(), k.size(1), k.size(2)},
                         .from = {.axis = 0, .cover = *parts_},
                         .to = {.axis = 0, .cover = halo_}};
  return {ring_->rank(), {move, move}};
}

HaloAttention::Given HaloAttention::gather(const Heads& in) const {
  const backend::Shape shape{halo_.size(ring_->rank()), in.k.size(1), in.k.size(2)};
  const Given given{pass_->workspace(shape), pass_->workspace(shape)};
  plan(in.k).run({given.k, given.v}, {in.k, in.v}, *ring_, pass_->backend());
  return given;
}

void HaloAttention::forward(const Tensor& out, const Tensor& lse, const Heads& in) const {
  const Given given = gather(in);
  for (const Visit& visit : visits()) {
    const Heads part{rows_of(in.q, visit.queries), rows_of(given.k, visit.keys),
                     rows_of(given.v, visit.keys)};
    runs_->forward(pass_->backend(), rows_of(out, visit.queries), tokens_of(lse, visit.queries),
                   part, visit.cu_seqlens_q, visit.cu_seqlens_k, options_);
  }
}

void HaloAttention::backward(const Heads& d, const Tensor& dout, const Tensor& out,
                             const Tensor& lse, const Heads& in) const {
  backend::Backend& backend = pass_->backend();
  const Given given = gather(in);
  // Two ranges may see one key: sums are of float32 until they go home.
  const Given sums{pass_->workspace_statistics(given.k.shape()),
                   pass_->workspace_statistics(given.v.shape())};
  backend.zero(sums.k);
  backend.zero(sums.v);
  for (const Visit& visit : visits()) {
    const Heads part{rows_of(in.q, visit.queries), rows_of(given.k, visit.keys),
                     rows_of(given.v, visit.keys)};
    const Heads gradient{rows_of(d.q, visit.queries), pass_->workspace(part.k.shape()),
                         pass_->workspace(part.v.shape())};
    runs_->backward(backend, gradient, rows_of(dout, visit.queries), rows_of(out, visit.queries),
                    tokens_of(lse, visit.queries), part, visit.cu_seqlens_q, visit.cu_seqlens_k,
                    options_);
    backend.accumulate(rows_of(sums.k, visit.keys), gradient.k);
    backend.accumulate(rows_of(sums.v, visit.keys), gradient.v);
  }
  Given home = sums;
  if (pass_->dtype() != pass_->statistic_dtype()) {
    home = given;  // whose values have done their work
    backend.copy(home.k, sums.k);
    backend.copy(home.v, sums.v);
  }
  plan(in.k).adjoint({d.k, d.v}, {home.k, home.v}, *ring_, backend);
}

}  // namespace longspan::nn
