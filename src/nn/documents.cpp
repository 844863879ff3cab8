#include "nn/documents.h"

#include <algorithm>

namespace longspan::nn {

using backend::CuSeqlens;
using backend::Index;
using shard::Range;

CuSeqlens documents_in(const CuSeqlens& documents, const std::vector<Range>& ranges) {
  CuSeqlens inside{0};
  inside.reserve(documents.size());
  for (std::size_t i = 0; i + 1 < documents.size(); ++i) {
    Index tokens = inside.back();
    for (const Range& range : ranges) {
      const Index begin = std::max<Index>(documents[i], range.begin);
      const Index end = std::min<Index>(documents[i + 1], range.end);
      tokens += std::max<Index>(0, end - begin);
    }
    inside.push_back(static_cast<std::int32_t>(tokens));
  }
  return inside;
}

}  // namespace longspan::nn
