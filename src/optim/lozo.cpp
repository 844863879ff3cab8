#include "longspan/optim/lozo.h"

#include <algorithm>

namespace longspan::optim {

using backend::Index;
using backend::Tensor;
using base::Purpose;

Lozo::Lozo(const AdamConfig& decay, const PerturbationConfig& config, const LozoConfig& lozo,
           nn::ParameterSet& parameters, backend::Backend& backend)
    : Mezo(decay, config, parameters, backend), lozo_(lozo) {}

bool Lozo::is_low_rank(const nn::Parameter& parameter) const {
  return parameter.shape.rank() == 2 &&
         std::min(parameter.shape[0], parameter.shape[1]) >= lozo_.rank;
}

double Lozo::correction(const nn::Parameter& parameter) const {
  return is_low_rank(parameter) ? 1.0 / static_cast<double>(lozo_.rank) : 1.0;
}

/// Own ranges may begin within a row. Products are formed of blocks of rows that begin where they
/// do for every rank, so that who owns an element does not change its bits.
void Lozo::write_direction(const Tensor& out, const nn::OwnRange& range, Index begin, Index end,
                           double factor) const {
  const nn::Parameter& parameter = parameters().at(range.number);
  if (!is_low_rank(parameter)) return Mezo::write_direction(out, range, begin, end, factor);
  const Index columns = parameter.shape[1];
  const Index block = std::min(std::max<Index>(1, kChunk / columns), parameter.shape[0]);
  const Index first = range.elements.begin + begin;
  const Index last = range.elements.begin + end;

  const std::int64_t drawn = chosen_step() / lozo_.interval * lozo_.interval;
  const Tensor basis = scratch({columns, lozo_.rank});
  home().random_normal(basis, stream(Purpose::kPerturbationBasis, drawn, range.number), 1.0, 0);
  const base::RandomStream left = stream(Purpose::kPerturbation, chosen_step(), range.number);
  const Tensor rows = scratch({block, lozo_.rank});
  const Tensor product = scratch({block, columns});
  const Tensor flat = product.reshape({block * columns});

  for (Index row = first / columns / block * block; row * columns < last; row += block) {
    const Index count = std::min(block, parameter.shape[0] - row);
    home().random_normal(rows.rows(0, count), left, factor,
                         static_cast<std::uint64_t>(row * lozo_.rank));
    home().matmul(product.rows(0, count), rows.rows(0, count), basis, {.transpose_b = true});
    const Index offset = row * columns;
    const Index from = std::max(first, offset);
    const Index to = std::min(last, offset + count * columns);
    home().copy(out.rows(from - first, to - first), flat.rows(from - offset, to - offset));
  }
}

}  // namespace longspan::optim
