#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/adamw.h"
#include "backend/elementwise/dynamic_map.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

struct Tables {
  MapTable signed_map;
  MapTable unsigned_map;
};

const Tables& tables() {
  static const Tables kTables = [] {
    Tables tables;
    for (int code = 0; code < kMapCodes; ++code) {
      tables.signed_map.fill<true>(code);
      tables.unsigned_map.fill<false>(code);
    }
    return tables;
  }();
  return kTables;
}

/// MapTable::code_of of each number, of up to a block: halving by halving, so that whole vectors
/// are looked up at once.
void find_codes(std::uint8_t* codes, const float* numbers, Index length, const MapTable& map) {
  std::int32_t found[kMomentBlock] = {};
  for (int half = kMapCodes / 2; half > 0; half /= 2) {
    const float* const bounds = map.bounds + half - 1;
#pragma omp simd
    for (Index i = 0; i < length; ++i) found[i] += numbers[i] > bounds[found[i]] ? half : 0;
  }
#pragma omp simd
  for (Index i = 0; i < length; ++i) codes[i] = static_cast<std::uint8_t>(found[i]);
}

/// A moment of up to a block: codes and their scale, and the numbers that they become.
struct Moments {
  std::uint8_t* codes;
  float* scale;
  const MapTable* map;
  float now[kMomentBlock];
  float before[kMomentBlock];

  void decode(Index length) {
    for (Index i = 0; i < length; ++i) now[i] = before[i] = map->values[codes[i]] * *scale;
  }
  void encode(Index length) {
    float most = 0.0F;
    for (Index i = 0; i < length; ++i) {
      now[i] = kept_moment(now[i], before[i]);
      most = std::max(most, std::abs(now[i]));
    }
    *scale = most;
#pragma omp simd
    for (Index i = 0; i < length; ++i) now[i] = scaled(now[i], most);
    find_codes(codes, now, length, *map);
  }
};

/// The update itself is AdamW's, in which nothing knows of the codes.
template <typename Weight>
void update_block(Weight* weight, float* master, Moments& moment1, Moments& moment2,
                  const float* gradient, Index length, const AdamWConstants<float>& with) {
  moment1.decode(length);
  moment2.decode(length);
#pragma omp simd
  for (Index i = 0; i < length; ++i) {
    adamw_update(master[i], moment1.now[i], moment2.now[i], gradient[i], with);
    if constexpr (!std::is_void_v<Weight>) weight[i] = round_to<Weight>(master[i]);
  }
  moment1.encode(length);
  moment2.encode(length);
}

/// Weight is void where the master is what the forward reads.
template <typename Weight>
void run(const Tensor& weight, const Tensor& master, const Tensor& codes1, const Tensor& scales1,
         const Tensor& codes2, const Tensor& scales2, const Tensor& gradient,
         const AdamWOptions& options) {
  const AdamWConstants<float> constants(options);
  const Tables& maps = tables();
  parallel_for(scales1.elements(), kMomentBlock, [&](Index block) {
    const Index begin = block * kMomentBlock;
    const Index length = std::min(kMomentBlock, master.elements() - begin);
    Moments moment1{codes1.data<std::uint8_t>() + begin,
                    scales1.data<float>() + block,
                    &maps.signed_map,
                    {},
                    {}};
    Moments moment2{codes2.data<std::uint8_t>() + begin,
                    scales2.data<float>() + block,
                    &maps.unsigned_map,
                    {},
                    {}};
    Weight* rounded = nullptr;
    if constexpr (!std::is_void_v<Weight>) rounded = weight.data<Weight>() + begin;
    update_block(rounded, master.data<float>() + begin, moment1, moment2,
                 gradient.data<float>() + begin, length, constants);
  });
}

}  // namespace

void CpuBackend::adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                            const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                            const Tensor& gradient, const AdamWOptions& options) {
  const Operation operation(*this, "adamw_8bit", master);
  check_adamw_8bit(weight, master, codes1, scales1, codes2, scales2, gradient, options);
  if (!weight.defined()) {
    return run<void>(weight, master, codes1, scales1, codes2, scales2, gradient, options);
  }
  dispatch_float("adamw_8bit", "weight", weight, [&]<typename Weight>() {
    if constexpr (!std::is_same_v<Weight, double>) {
      run<Weight>(weight, master, codes1, scales1, codes2, scales2, gradient, options);
    }
  });
}

}  // namespace longspan::backend::cpu
