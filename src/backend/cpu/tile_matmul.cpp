#include "backend/cpu/tile_matmul.h"

#include <omp.h>

#include <array>
#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "backend/cpu/matmul_primitive.h"
#include "longspan/base/bfloat16.h"

namespace longspan::backend::cpu {

class TileMatmul::Impl {
 public:
  void run(const MatmulKey& key, void* out, const void* a, const void* b) {
    Entry& entry = find(key);
    entry.arguments.at(DNNL_ARG_SRC).set_data_handle(const_cast<void*>(a));
    entry.arguments.at(DNNL_ARG_WEIGHTS).set_data_handle(const_cast<void*>(b));
    entry.arguments.at(DNNL_ARG_DST).set_data_handle(out);
    entry.arguments.at(DNNL_ARG_SCRATCHPAD).set_data_handle(aligned_scratch(scratch_.data()));
    entry.primitive.execute(stream_, entry.arguments);
  }

 private:
  struct Entry {
    dnnl::matmul primitive;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  Entry& find(const MatmulKey& key) {
    const auto found = entries_.find(key);
    if (found != entries_.end()) return found->second;
    const auto description = describe_matmul(key, engine_);
    const auto scratch = description.scratchpad_desc();
    const std::size_t room = scratch_room(scratch.get_size());
    if (room > scratch_.size()) scratch_.resize(room);
    Entry entry{dnnl::matmul(description),
                {{DNNL_ARG_SRC, {description.src_desc(), engine_, nullptr}},
                 {DNNL_ARG_WEIGHTS, {description.weights_desc(), engine_, nullptr}},
                 {DNNL_ARG_DST, {description.dst_desc(), engine_, nullptr}},
                 {DNNL_ARG_SCRATCHPAD, {scratch, engine_, nullptr}}}};
    return entries_.emplace(key, std::move(entry)).first->second;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::unordered_map<MatmulKey, Entry, MatmulKeyHash> entries_;
  std::vector<std::byte> scratch_;
};

TileMatmul::TileMatmul() : impl_(std::make_unique<Impl>()) {}
TileMatmul::~TileMatmul() = default;

template <typename T>
void TileMatmul::run(Tile<Compute<T>> out, Tile<const T> a, Tile<const T> b, Index m, Index n,
                     Index k, bool transpose_b, bool accumulate) {
  constexpr bool kIsBFloat16 = std::is_same_v<T, base::BFloat16>;
  MatmulKey key;
  key.m = m;
  key.n = n;
  key.k = k;
  key.stride_a = a.stride;
  key.stride_b = b.stride;
  key.stride_out = out.stride;
  key.in = kIsBFloat16 ? base::DType::kBFloat16 : base::DType::kFloat32;
  key.out = base::DType::kFloat32;
  key.options = {false, transpose_b, accumulate};
  impl_->run(key, out.data, a.data, b.data);
}

template <>
void TileMatmul::run<double>(Tile<double> out, Tile<const double> a, Tile<const double> b, Index m,
                             Index n, Index k, bool transpose_b, bool accumulate) {
  const Index b_row = transpose_b ? 1 : b.stride;
  const Index b_column = transpose_b ? b.stride : 1;
  for (Index i = 0; i < m; ++i) {
    double* row = out.data + i * out.stride;
    for (Index j = 0; j < n; ++j) {
      double sum = accumulate ? row[j] : 0.0;
      for (Index l = 0; l < k; ++l) {
        sum += a.data[i * a.stride + l] * b.data[l * b_row + j * b_column];
      }
      row[j] = sum;
    }
  }
}

template void TileMatmul::run<float>(Tile<float>, Tile<const float>, Tile<const float>, Index,
                                     Index, Index, bool, bool);
template void TileMatmul::run<base::BFloat16>(Tile<float>, Tile<const base::BFloat16>,
                                              Tile<const base::BFloat16>, Index, Index, Index, bool,
                                              bool);

}  // namespace longspan::backend::cpu
