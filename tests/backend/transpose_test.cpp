#include "backend/cpu/transpose.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

using namespace longspan;
using backend::Index;
using backend::Tensor;
using base::DType;

TEST_CASE("transposition moves every element, at every size and stride", "[transpose]") {
  for (const Index rows : {0, 1, 7, 8, 33, 64, 500}) {
    for (const Index columns : {1, 8, 9, 40, 129}) {
      for (const Index gap : {0, 3}) {
        std::vector<std::uint16_t> in(static_cast<std::size_t>(rows * (columns + gap)) + 1);
        std::vector<std::uint16_t> out(static_cast<std::size_t>(rows * columns) + 1, 7);
        for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint16_t>(i * 31 + 5);
        const Tensor wide(nullptr, in.data(), DType::kBFloat16, {rows, columns + gap});
        const Tensor target(nullptr, out.data(), DType::kBFloat16, {columns, rows});
        backend::cpu::transpose_bfloat16(target, wide.columns(0, columns));
        bool same = true;
        for (Index i = 0; i < rows; ++i) {
          for (Index j = 0; j < columns; ++j) {
            same = same && out[static_cast<std::size_t>(j * rows + i)] ==
                               in[static_cast<std::size_t>(i * (columns + gap) + j)];
          }
        }
        INFO(rows << " x " << columns << " gap " << gap);
        CHECK(same);
        CHECK(out.back() == 7);
      }
    }
  }
}
