#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

struct Nothing {};

template <typename T, bool kAligned>
struct Fill {
  static constexpr int kCount = kPack<T>;
  using Loaded = Nothing;

  Rows<T> out;
  T value;

  __device__ Nothing load(Index, Index, Index) const { return {}; }
  __device__ void store(Index row, Index column, Index left, Nothing) const {
    Pack<T, kCount> pack;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) pack.values[k] = value;
    store_pack<kAligned>(out.at(row, column), pack, left);
  }
};

template <typename Out, typename In, bool kAligned>
struct Convert {
  static constexpr int kCount = kPackOf<Out, In>;
  using Loaded = Pack<In, kCount>;

  Rows<Out> out;
  Rows<const In> in;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return load_pack<kAligned, kCount>(in.at(row, column), left);
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<Out, kCount> pack;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      if constexpr (std::is_same_v<Out, In>) {
        pack.values[k] = loaded.values[k];
      } else {
        pack.values[k] = round_to<Out>(cuda::load(loaded.values[k]));
      }
    }
    store_pack<kAligned>(out.at(row, column), pack, left);
  }
};

template <typename T, typename B, bool kAligned>
struct Add {
  static constexpr int kCount = kPackOf<T, B>;
  struct Loaded {
    Pack<T, kCount> a;
    Pack<B, kCount> b;
  };

  Rows<T> out;
  Rows<const T> a;
  Rows<const B> b;

  __device__ Loaded load(Index row, Index column, Index left) const {
    return {load_pack<kAligned, kCount>(a.at(row, column), left),
            load_pack<kAligned, kCount>(b.at(row, column), left)};
  }
  __device__ void store(Index row, Index column, Index left, const Loaded& loaded) const {
    Pack<T, kCount> pack;
    LONGSPAN_UNROLL
    for (int k = 0; k < kCount; ++k) {
      pack.values[k] = round_to<T>(cuda::load(loaded.a.values[k]) + cuda::load(loaded.b.values[k]));
    }
    store_pack<kAligned>(out.at(row, column), pack, left);
  }
};

template <typename T>
void fill_with(const Queue& queue, const Tensor& out, T value) {
  const Extents extents(out, out.is_dense());
  with_alignment(extents.aligned({&out}), [&]<bool kAligned>() {
    const Fill<T, kAligned> body{{static_cast<T*>(out.raw()), out.row_stride()}, value};
    launch_packs(queue, extents.rows, extents.columns, body);
  });
}

template <typename Out, typename In>
void convert(const Queue& queue, const Tensor& out, const Tensor& in) {
  const Extents extents(out, out.is_dense() && in.is_dense());
  with_alignment(extents.aligned({&out, &in}), [&]<bool kAligned>() {
    const Convert<Out, In, kAligned> body{{static_cast<Out*>(out.raw()), out.row_stride()},
                                          {static_cast<const In*>(in.raw()), in.row_stride()}};
    launch_packs(queue, extents.rows, extents.columns, body);
  });
}

template <typename T, typename B>
void add_to(const Queue& queue, const Tensor& out, const Tensor& a, const Tensor& b) {
  const Extents extents(out, out.is_dense() && a.is_dense() && b.is_dense());
  with_alignment(extents.aligned({&out, &a, &b}), [&]<bool kAligned>() {
    const Add<T, B, kAligned> body{{out.data<T>(), out.row_stride()},
                                   {a.data<T>(), a.row_stride()},
                                   {b.data<B>(), b.row_stride()}};
    launch_packs(queue, extents.rows, extents.columns, body);
  });
}

/// One of the copies that share a launch. It is cut into tiles, each for one block of threads.
template <typename T>
struct TiledCopy {
  Rows<T> out;
  Rows<const T> in;
  Index rows;
  Index columns;
  int across;        // threads side by side in a row, a power of two
  int tiles_of_row;  // side by side
};

/// As many of them as go into a kernel's parameters (4 KiB of them on every device).
template <typename T>
struct TiledCopies {
  static constexpr int kMost = 64;
  TiledCopy<T> each[kMost];
};

constexpr int kPacksOfTile = 4;  // of each thread

/// blockIdx.y is the copy, blockIdx.x its tile.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kElementwiseThreads) copy_tiles(TiledCopies<T> copies) {
  constexpr int kCount = kPack<T>;
  const TiledCopy<T>& copy = copies.each[blockIdx.y];
  const auto thread = static_cast<int>(threadIdx.x);
  const int down = kElementwiseThreads / copy.across;
  const Index tile = blockIdx.x;
  const Index row = tile / copy.tiles_of_row * down + thread / copy.across;
  if (row >= copy.rows) return;
  const Index step = static_cast<Index>(copy.across) * kCount;
  const Index first = tile % copy.tiles_of_row * step * kPacksOfTile +
                      static_cast<Index>(thread % copy.across) * kCount;
  Pack<T, kCount> packs[kPacksOfTile] = {};
  LONGSPAN_UNROLL
  for (int i = 0; i < kPacksOfTile; ++i) {
    const Index left = copy.columns - first - i * step;
    if (left > 0) packs[i] = load_pack<kAligned, kCount>(copy.in.at(row, first + i * step), left);
  }
  LONGSPAN_UNROLL
  for (int i = 0; i < kPacksOfTile; ++i) {
    const Index left = copy.columns - first - i * step;
    if (left > 0) store_pack<kAligned>(copy.out.at(row, first + i * step), packs[i], left);
  }
}

template <typename T>
TiledCopy<T> tiled(const Tensor& out, const Tensor& in) {
  const Extents extents(out, out.is_dense() && in.is_dense());
  const Index packs = divide_up(extents.columns, kPack<T>);
  const Index across =
      std::min<Index>(kElementwiseThreads, power_of_two(divide_up(packs, kPacksOfTile)));
  return {{static_cast<T*>(out.raw()), out.row_stride()},
          {static_cast<const T*>(in.raw()), in.row_stride()},
          extents.rows,
          extents.columns,
          static_cast<int>(across),
          static_cast<int>(divide_up(packs, across * kPacksOfTile))};
}

template <typename T, bool kAligned>
void copy_each(const Queue& queue, const std::vector<Tensor>& outs,
               const std::vector<Tensor>& ins) {
  TiledCopies<T> copies{};
  static_assert(sizeof(copies) < 4096);
  unsigned count = 0;
  Index most_tiles = 0;
  const auto launch = [&] {
    if (count == 0) return;
    const dim3 grid(static_cast<unsigned>(most_tiles), count);
    LONGSPAN_LAUNCH((copy_tiles<T, kAligned>), grid, static_cast<unsigned>(kElementwiseThreads), 0,
                    queue.stream, copies);
    count = 0;
    most_tiles = 0;
  };
  for (std::size_t i = 0; i < outs.size(); ++i) {
    if (outs[i].elements() == 0) continue;
    const TiledCopy<T> copy = tiled<T>(outs[i], ins[i]);
    const Index down = kElementwiseThreads / copy.across;
    most_tiles = std::max(most_tiles, divide_up(copy.rows, down) * copy.tiles_of_row);
    copies.each[count++] = copy;
    if (count == TiledCopies<T>::kMost) launch();
  }
  launch();
}

/// Calls visit.template operator()<T>() with an unsigned integer of the dtype's size.
template <typename Visit>
void dispatch_size(base::DType dtype, const Visit& visit) {
  switch (base::size_of(dtype)) {
    case 8:
      return visit.template operator()<std::uint64_t>();
    case 4:
      return visit.template operator()<std::uint32_t>();
    case 2:
      return visit.template operator()<std::uint16_t>();
    default:
      return visit.template operator()<std::uint8_t>();
  }
}

}  // namespace

void CudaKernels::zero(const Tensor& out) {
  const Operation operation(*this, "zero", out);
  check_defined("zero", "out", out);
  dispatch_size(out.dtype(), [&]<typename T>() { fill_with<T>(queue_, out, T{0}); });
}

void CudaKernels::fill(const Tensor& out, double value) {
  const Operation operation(*this, "fill", out);
  dispatch_float("fill", "out", out, [&]<typename T>() {
    if constexpr (std::is_same_v<T, base::BFloat16>) {
      fill_with<T>(queue_, out, T(static_cast<float>(value)));
    } else {
      fill_with<T>(queue_, out, static_cast<T>(value));
    }
  });
}

void CudaKernels::copy(const Tensor& out, const Tensor& in) {
  const Operation operation(*this, "copy", out);
  check_copy(out, in);
  if (out.dtype() == in.dtype()) {
    return dispatch_size(out.dtype(), [&]<typename T>() { convert<T, T>(queue_, out, in); });
  }
  dispatch_float("copy", "out", out, [&]<typename Out>() {
    dispatch_float("copy", "in", in, [&]<typename In>() { convert<Out, In>(queue_, out, in); });
  });
}

void CudaKernels::copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) {
  const Operation operation(*this, "copy_all", outs.empty() ? Tensor() : outs.front());
  check_copy_all(outs, ins);
  if (outs.empty()) return;
  bool all_aligned = true;
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const Extents extents(outs[i], outs[i].is_dense() && ins[i].is_dense());
    all_aligned = all_aligned && extents.aligned({&outs[i], &ins[i]});
  }
  dispatch_size(outs[0].dtype(), [&]<typename T>() {
    with_alignment(all_aligned,
                   [&]<bool kAligned>() { copy_each<T, kAligned>(queue_, outs, ins); });
  });
}

void CudaKernels::add(const Tensor& out, const Tensor& a, const Tensor& b) {
  const Operation operation(*this, "add", out);
  check_add(out, a, b);
  dispatch_float("add", "out", out, [&]<typename T>() { add_to<T, T>(queue_, out, a, b); });
}

void CudaKernels::accumulate(const Tensor& out, const Tensor& in) {
  const Operation operation(*this, "accumulate", out);
  check_accumulate(out, in);
  if (out.dtype() == base::DType::kFloat64) return add_to<double, double>(queue_, out, out, in);
  if (in.dtype() == base::DType::kFloat32) return add_to<float, float>(queue_, out, out, in);
  add_to<float, base::BFloat16>(queue_, out, out, in);
}

}  // namespace longspan::backend::cuda
