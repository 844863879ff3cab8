// Which rows weights' gradients are made of: decided on the host, whatever the device.
#include <algorithm>
#include <vector>

#include "backend/contracts.h"
#include "backend/operation.h"
#include "longspan/backend/backend.h"

namespace longspan::backend {
namespace {

/// Rows and weights on the host, and how they were drawn.
template <typename Real>
struct Draw {
  std::vector<std::int32_t> rows;
  std::vector<Real> weights;
  DrawnRows result;
};

template <typename Real>
Draw<Real> draw(const std::vector<Real>& x_norms, const std::vector<Real>& dy_norms,
                const std::vector<std::int32_t>& numbers, const RowDraw& options) {
  Draw<Real> drawn;
  DrawnRows& result = drawn.result;
  for (std::size_t token = 0; token < numbers.size(); ++token) {
    const double size = static_cast<double>(x_norms[token]) * static_cast<double>(dy_norms[token]);
    if (size == 0) continue;
    const double probability = options.factor * size;
    const bool is_certain = !(probability < 1);  // also where it is not a number
    result.tokens += 1;
    result.sizes += size;
    (is_certain ? result.certain : result.rest) += is_certain ? 1 : size;
    const auto number = static_cast<std::uint64_t>(static_cast<std::uint32_t>(numbers[token]));
    if (!is_certain && options.stream.uniform(number) >= probability) continue;
    drawn.rows.push_back(static_cast<std::int32_t>(token));
    drawn.weights.push_back(static_cast<Real>(is_certain ? 1.0 : 1.0 / probability));
  }
  result.count = static_cast<Index>(drawn.rows.size());
  return drawn;
}

}  // namespace

DrawnRows Backend::draw_rows(const Tensor& rows, const Tensor& weights, const Tensor& x_norms,
                             const Tensor& dy_norms, const Tensor& numbers,
                             const RowDraw& options) {
  const Operation operation(*this, "draw_rows", x_norms);
  check_draw_rows(rows, weights, x_norms, dy_norms, numbers, options);
  const auto run = [&]<typename Real>() {
    const auto fetch = [&]<typename Number>(const Tensor& from, std::vector<Number> to) {
      to.resize(static_cast<std::size_t>(from.elements()));
      copy_to_host(to.data(), from, from.bytes());
      return to;
    };
    Draw<Real> drawn =
        draw(fetch(x_norms, std::vector<Real>()), fetch(dy_norms, std::vector<Real>()),
             fetch(numbers, std::vector<std::int32_t>()), options);
    drawn.rows.resize(static_cast<std::size_t>(rows.elements()), -1);
    drawn.weights.resize(drawn.rows.size(), Real(0));
    copy_from_host(rows, drawn.rows.data(), rows.bytes());
    copy_from_host(weights, drawn.weights.data(), weights.bytes());
    return drawn.result;
  };
  const bool is_double = x_norms.dtype() == base::DType::kFloat64;
  return is_double ? run.operator()<double>() : run.template operator()<float>();
}

}  // namespace longspan::backend
