#include "backend/cpu/matmul.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "backend/cpu/matmul_primitive.h"
#include "backend/cpu/transpose.h"

namespace longspan::backend::cpu {
namespace {

using base::DType;

/// Operands of these sizes are transposed before the product: measured 1.2 to 1.4 times as fast
/// with AMX as oneDNN's own copy. There is nothing to gain for less, nor for what no cache holds.
constexpr Index kLeastTransposed = Index{1} << 16;
constexpr Index kMostTransposed = Index{1} << 23;

bool pays_to_transpose(const MatmulKey& problem) {
  const Index elements = problem.m * problem.k;
  return problem.in == DType::kBFloat16 && problem.options.transpose_a &&
         elements >= kLeastTransposed && elements <= kMostTransposed;
}

/// The same product with a put upright first.
MatmulKey upright(MatmulKey problem) {
  problem.options.transpose_a = false;
  problem.stride_a = problem.k;
  return problem;
}

dnnl::memory::data_type to_dnnl(DType dtype) {
  return dtype == DType::kFloat32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

/// What the product sees of an operand that is stored with this row stride.
dnnl::memory::desc describe(Index rows, Index columns, Index stride, bool transposed, DType dtype) {
  return {{rows, columns},
          to_dnnl(dtype),
          transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1}};
}

/// A product of no terms.
void zero_rows(const Tensor& out) {
  const std::size_t element = base::size_of(out.dtype());
  for (Index row = 0; row < out.size(0); ++row) {
    auto* begin = static_cast<std::byte*>(out.raw()) +
                  static_cast<std::size_t>(row * out.row_stride()) * element;
    std::memset(begin, 0, static_cast<std::size_t>(out.size(1)) * element);
  }
}

}  // namespace

dnnl::matmul::primitive_desc describe_matmul(const MatmulKey& key, const dnnl::engine& engine) {
  const auto a = describe(key.m, key.k, key.stride_a, key.options.transpose_a, key.in);
  const auto b = describe(key.k, key.n, key.stride_b, key.options.transpose_b, key.in);
  const auto out = describe(key.m, key.n, key.stride_out, false, key.out);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.options.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
  return {dnnl::matmul::desc(a, b, out), attributes, engine};
}

class Matmul::Impl {
 public:
  explicit Impl(Arena& arena) : arena_(&arena) {}

  /// The same with a transposed a, which is put upright first.
  void run_transposed(const MatmulKey& problem, const Tensor& out, const Tensor& a,
                      const Tensor& b) {
    const std::size_t bytes = a.bytes();
    void* memory = arena_->allocate(bytes, MemoryTag::kWorkspace);
    const Tensor copy(nullptr, memory, a.dtype(), {problem.m, problem.k});
    transpose_bfloat16(copy, a);
    run(upright(problem), out, copy, b);
    arena_->release(memory, bytes, MemoryTag::kWorkspace);
  }

  void run(const MatmulKey& problem, const Tensor& out, const Tensor& a, const Tensor& b) {
    Entry& entry = find(problem);
    void* scratch = nullptr;
    if (entry.scratch_bytes > 0) {
      scratch = arena_->allocate(entry.scratch_bytes, MemoryTag::kWorkspace);
    }
    entry.arguments.at(DNNL_ARG_SRC).set_data_handle(a.raw());
    entry.arguments.at(DNNL_ARG_WEIGHTS).set_data_handle(b.raw());
    entry.arguments.at(DNNL_ARG_DST).set_data_handle(out.raw());
    entry.arguments.at(DNNL_ARG_SCRATCHPAD).set_data_handle(aligned_scratch(scratch));
    entry.primitive.execute(stream_, entry.arguments);
    stream_.wait();
    if (scratch != nullptr) {
      arena_->release(scratch, entry.scratch_bytes, MemoryTag::kWorkspace);
    }
  }

 private:
  struct Entry {
    MatmulKey key;
    dnnl::matmul primitive;
    std::unordered_map<int, dnnl::memory> arguments;
    std::size_t scratch_bytes = 0;
  };

  // Packed batches have ever new token counts; what has not been used for long makes room.
  static constexpr std::size_t kMostEntries = 1024;

  Entry& find(const MatmulKey& key) {
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return *found->second;
    }
    entries_.push_front(make(key));
    by_key_.emplace(key, entries_.begin());
    if (entries_.size() > kMostEntries) {
      by_key_.erase(entries_.back().key);
      entries_.pop_back();
    }
    return entries_.front();
  }

  Entry make(const MatmulKey& key) {
    const auto description = describe_matmul(key, engine_);
    const auto scratch = description.scratchpad_desc();
    return {key,
            dnnl::matmul(description),
            {{DNNL_ARG_SRC, {description.src_desc(), engine_, nullptr}},
             {DNNL_ARG_WEIGHTS, {description.weights_desc(), engine_, nullptr}},
             {DNNL_ARG_DST, {description.dst_desc(), engine_, nullptr}},
             {DNNL_ARG_SCRATCHPAD, {scratch, engine_, nullptr}}},
            scratch_room(scratch.get_size())};
  }

  Arena* arena_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<MatmulKey, std::list<Entry>::iterator, MatmulKeyHash> by_key_;
};

Matmul::Matmul(Arena& arena) : impl_(std::make_unique<Impl>(arena)) {}
Matmul::~Matmul() = default;

void Matmul::run(const Tensor& out, const Tensor& a, const Tensor& b,
                 const MatmulOptions& options) {
  const MatmulKey problem = matmul_key(out, a, b, options);
  if (problem.m == 0 || problem.n == 0) return;
  if (problem.k == 0) {
    if (!options.accumulate) zero_rows(out);
    return;
  }
  if (problem.in == DType::kFloat64) {
    matmul_float64(out, a, b, options);
  } else if (pays_to_transpose(problem)) {
    impl_->run_transposed(problem, out, a, b);
  } else {
    impl_->run(problem, out, a, b);
  }
}

bool supports(DType dtype, std::string* why_not) {
  if (dtype != DType::kBFloat16) return true;
  // oneDNN computes bfloat16 products natively, or by widening, from AVX-512 on.
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  if ((isa & needed) == needed) return true;
  if (why_not != nullptr) *why_not = "this processor has no AVX-512, which oneDNN's bf16 needs";
  return false;
}

class MatmulWorkspaces::Impl {
 public:
  std::size_t scratch(const MatmulKey& key) {
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) return found->second;
    const std::size_t bytes =
        scratch_room(describe_matmul(key, engine_).scratchpad_desc().get_size());
    by_key_.emplace(key, bytes);
    return bytes;
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::unordered_map<MatmulKey, std::size_t, MatmulKeyHash> by_key_;
};

MatmulWorkspaces::MatmulWorkspaces() : impl_(std::make_unique<Impl>()) {}
MatmulWorkspaces::~MatmulWorkspaces() = default;

MatmulWorkspace MatmulWorkspaces::of(const Tensor& out, const Tensor& a, const Tensor& b,
                                     const MatmulOptions& options) {
  const MatmulKey problem = matmul_key(out, a, b, options);
  const bool is_empty = problem.m == 0 || problem.n == 0 || problem.k == 0;
  if (is_empty || problem.in == DType::kFloat64) return {};
  if (!pays_to_transpose(problem)) return {0, impl_->scratch(problem)};
  return {a.bytes(), impl_->scratch(upright(problem))};
}

void matmul_float64(const Tensor& out, const Tensor& a, const Tensor& b,
                    const MatmulOptions& options) {
  const Index m = out.size(0);
  const Index n = out.size(1);
  const Index k = a.size(options.transpose_a ? 0 : 1);
  const Index a_row = options.transpose_a ? 1 : a.row_stride();
  const Index a_column = options.transpose_a ? a.row_stride() : 1;
  const Index b_row = options.transpose_b ? 1 : b.row_stride();
  const Index b_column = options.transpose_b ? b.row_stride() : 1;
  const double* pa = a.data<double>();
  const double* pb = b.data<double>();
  double* po = out.data<double>();
#pragma omp parallel for schedule(static) if (m * n * k > 100000)
  for (Index i = 0; i < m; ++i) {
    double* row = po + i * out.row_stride();
    if (!options.accumulate) std::fill(row, row + n, 0.0);
    for (Index l = 0; l < k; ++l) {
      const double factor = pa[i * a_row + l * a_column];
      const double* b_line = pb + l * b_row;
      for (Index j = 0; j < n; ++j) row[j] += factor * b_line[j * b_column];
    }
  }
}

}  // namespace longspan::backend::cpu
