#include <array>
#include <limits>
#include <numeric>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

/// All ids must lie in [least, rows).
void check_ids(const char* operation, const Tensor& ids, std::int32_t least, Index rows) {
  const auto* id = ids.data<std::int32_t>();
  for (Index t = 0; t < ids.size(0); ++t) {
    if (id[t] < least || id[t] >= rows) {
      contract_broken(operation, "ids[" + std::to_string(t) + "] is " + std::to_string(id[t]) +
                                     "; expected " + std::to_string(least) + " to " +
                                     std::to_string(rows - 1));
    }
  }
}

/// The tokens sorted by id, those of one id in their own order. A radix sort: its cost depends on
/// the number of tokens and not on the vocabulary.
std::vector<std::uint32_t> sort_by_id(const std::int32_t* ids, std::size_t tokens) {
  constexpr std::uint32_t kDigitBits = 11;
  constexpr std::uint32_t kDigits = 1U << kDigitBits;
  std::vector<std::uint32_t> order(tokens);
  std::iota(order.begin(), order.end(), 0U);
  std::vector<std::uint32_t> sorted(tokens);
  const auto largest = static_cast<std::uint32_t>(*std::max_element(ids, ids + tokens));
  for (std::uint32_t shift = 0; shift < 32 && (largest >> shift) != 0; shift += kDigitBits) {
    const auto digit = [=](std::uint32_t token) {
      return (static_cast<std::uint32_t>(ids[token]) >> shift) % kDigits;
    };
    std::array<std::uint32_t, kDigits + 1> first{};
    for (const std::uint32_t token : order) ++first[digit(token) + 1];
    std::partial_sum(first.begin(), first.end(), first.begin());
    for (const std::uint32_t token : order) sorted[first[digit(token)]++] = token;
    order.swap(sorted);
  }
  return order;
}

/// Where each id's run begins in the sorted tokens, and the end of the last run.
std::vector<std::size_t> find_runs(const std::vector<std::uint32_t>& order,
                                   const std::int32_t* ids) {
  std::vector<std::size_t> runs;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || ids[order[i]] != ids[order[i - 1]]) runs.push_back(i);
  }
  runs.push_back(order.size());
  return runs;
}

/// Each thread takes a run and a slice of columns, so that one frequent token does not become one
/// thread's work; every element is summed by one thread, in token order.
template <typename T>
void backward(const Tensor& dtable, const Tensor& dy, const std::int32_t* ids) {
  using Real = Compute<T>;
  constexpr Index kColumns = 256;
  const Index hidden = dtable.size(1);
  const auto order = sort_by_id(ids, static_cast<std::size_t>(dy.size(0)));
  const auto runs = find_runs(order, ids);
  const Index slices = divide_up(hidden, kColumns);
  const Index tasks = static_cast<Index>(runs.size() - 1) * slices;
  const T* gradients = dy.data<T>();
  Real* table = dtable.data<Real>();
#pragma omp parallel for schedule(dynamic, 16) if (dy.elements() >= kParallelElements)
  for (Index task = 0; task < tasks; ++task) {
    const auto run = static_cast<std::size_t>(task / slices);
    const Index begin = task % slices * kColumns;
    const Index end = std::min(hidden, begin + kColumns);
    Real* sum = table + ids[order[runs[run]]] * dtable.row_stride();
    for (std::size_t i = runs[run]; i < runs[run + 1]; ++i) {
      const T* row = gradients + order[i] * dy.row_stride();
#pragma omp simd
      for (Index h = begin; h < end; ++h) sum[h] += load(row[h]);
    }
  }
}

}  // namespace

void CpuBackend::gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) {
  const Operation operation(*this, "gather_rows", out);
  constexpr const char* kName = "gather_rows";
  check_gather_rows(out, ids, table);
  check_ids(kName, ids, std::numeric_limits<std::int32_t>::min(), table.size(0));
  const Index hidden = table.size(1);
  dispatch_float(kName, "table", table, [&]<typename T>() {
    parallel_for(ids.size(0), hidden, [&](Index t) {
      const std::int32_t id = ids.data<std::int32_t>()[t];
      T* row = out.data<T>() + t * out.row_stride();
      if (id < 0) {
        std::fill_n(row, hidden, T{});
      } else {
        std::copy_n(table.data<T>() + id * table.row_stride(), hidden, row);
      }
    });
  });
}

void CpuBackend::embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) {
  const Operation operation(*this, "embedding_backward", dtable);
  constexpr const char* kName = "embedding_backward";
  check_embedding_backward(dtable, dy, ids);
  check_ids(kName, ids, 0, dtable.size(0));
  dispatch_float(kName, "dy", dy, [&]<typename T>() {
    if (dy.elements() > 0) backward<T>(dtable, dy, ids.data<std::int32_t>());
  });
}

}  // namespace longspan::backend::cpu
