#include "backend/cpu/attention.h"

#include <fmt/format.h>
#include <omp.h>

#include <exception>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/attention_backward.h"
#include "backend/cpu/attention_forward.h"
#include "longspan/base/error.h"

namespace longspan::backend::cpu {
namespace {

using base::DType;

/// Calls `run.template operator()<T>()` with the element type of `dtype`.
template <typename Run>
void with_type(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::kFloat32:
      return run.template operator()<float>();
    case DType::kBFloat16:
      return run.template operator()<base::BFloat16>();
    case DType::kFloat64:
      return run.template operator()<double>();
    default:
      throw base::InternalError(fmt::format("attention: dtype {}", base::name_of(dtype)));
  }
}

struct ForwardTask {
  Document document;
  Index head, begin;
};

struct BackwardTask {
  Document document;
  Index kv_head;
};

/// Sizes of the longest documents.
struct Longest {
  Longest(const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k) {
    for (const Document& document : documents_of(cu_seqlens_q, cu_seqlens_k)) {
      queries = std::max(queries, document.queries);
      keys = std::max(keys, document.keys);
    }
  }

  Index queries = 0;
  Index keys = 0;
};

/// Longest first, so that the threads finish together; ties keep their order.
template <typename Task, typename Cost>
void sort_by_cost(std::vector<Task>& tasks, const Cost& cost) {
  std::stable_sort(tasks.begin(), tasks.end(),
                   [&](const Task& a, const Task& b) { return cost(a) > cost(b); });
}

}  // namespace

/// What each thread keeps from call to call: its primitives.
class Attention::Threads {
 public:
  /// Runs `body(task, thread's matmul, thread number)` for every task on all threads; an exception
  /// of one of them is thrown again here.
  template <typename Task, typename Body>
  void for_each(const std::vector<Task>& tasks, const Body& body) {
    const auto threads = static_cast<std::size_t>(omp_get_max_threads());
    while (matmuls_.size() < threads) matmuls_.push_back(std::make_unique<TileMatmul>());
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1)
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const auto thread = static_cast<std::size_t>(omp_get_thread_num());
      try {
        body(tasks[i], *matmuls_[thread], thread);
      } catch (...) {
#pragma omp critical(longspan_attention_failure)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  std::vector<std::unique_ptr<TileMatmul>> matmuls_;
};

Attention::Attention() : threads_(std::make_unique<Threads>()) {}
Attention::~Attention() = default;

void Attention::forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                        const Tensor& v, const CuSeqlens& cu_seqlens_q,
                        const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  const AttentionForward call{out, lse, q, k, v, options};
  std::vector<ForwardTask> tasks;
  for (const Document& document : documents_of(cu_seqlens_q, cu_seqlens_k)) {
    for (Index head = 0; head < q.size(1); ++head) {
      for (Index begin = 0; begin < document.queries; begin += kQueryTile) {
        tasks.push_back({document, head, begin});
      }
    }
  }
  sort_by_cost(tasks, [&](const ForwardTask& task) {
    const Index last = std::min(task.begin + kQueryTile, task.document.queries) - 1;
    return task.document.visible(last, options.causal) -
           task.document.first_key(task.begin, options);
  });
  with_type(q.dtype(), [&]<typename T>() {
    std::vector<ForwardScratch<T>> scratch(static_cast<std::size_t>(omp_get_max_threads()),
                                           ForwardScratch<T>(q.size(2)));
    threads_->for_each(tasks, [&](const ForwardTask& task, TileMatmul& matmul, std::size_t thread) {
      attention_forward_tile<T>(call, task.document, task.head, task.begin, matmul,
                                scratch[thread]);
    });
  });
}

void Attention::backward(Backend& backend, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                         const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                         const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) {
  check_attention(out, lse, q, k, v, cu_seqlens_q, cu_seqlens_k, options);
  check_attention(dout, lse, dq, dk, dv, cu_seqlens_q, cu_seqlens_k, options);
  const AttentionBackward call{dq, dk, dv, dout, out, lse, q, k, v, options};
  std::vector<BackwardTask> tasks;
  const Longest longest(cu_seqlens_q, cu_seqlens_k);
  for (const Document& document : documents_of(cu_seqlens_q, cu_seqlens_k)) {
    for (Index kv_head = 0; kv_head < k.size(1); ++kv_head) tasks.push_back({document, kv_head});
  }
  sort_by_cost(tasks,
               [](const BackwardTask& task) { return task.document.queries * task.document.keys; });
  with_type(q.dtype(), [&]<typename T>() {
    using Acc = Compute<T>;
    const Index threads = omp_get_max_threads();
    const Index elements = BackwardScratch<T>::elements(q.size(2), longest.queries, longest.keys);
    const Tensor sums =
        backend.allocate({threads, elements}, compute_dtype(q.dtype()), MemoryTag::kWorkspace);
    std::vector<BackwardScratch<T>> scratch;
    for (Index thread = 0; thread < threads; ++thread) {
      scratch.emplace_back(q.size(2), longest.queries, longest.keys,
                           sums.data<Acc>() + thread * elements);
    }
    threads_->for_each(
        tasks, [&](const BackwardTask& task, TileMatmul& matmul, std::size_t thread) {
          attention_backward_group<T>(call, task.document, task.kv_head, matmul, scratch[thread]);
        });
  });
}

std::size_t attention_backward_bytes(DType dtype, Index head_dim, const CuSeqlens& cu_seqlens_q,
                                     const CuSeqlens& cu_seqlens_k, Index threads) {
  const Longest longest(cu_seqlens_q, cu_seqlens_k);
  Index elements = 0;
  with_type(dtype, [&]<typename T>() {
    elements = BackwardScratch<T>::elements(head_dim, longest.queries, longest.keys);
  });
  return static_cast<std::size_t>(threads * elements) * base::size_of(compute_dtype(dtype));
}

}  // namespace longspan::backend::cpu
