#include "nn/documents.h"

#include <algorithm>

namespace longspan::nn {

using backend::CuSeqlens;
using backend::Index;
using shard::Range;

CuSeqlens documents_in(const CuSeqlens& documents, const std::vector<Range>& ranges) {
  CuSeqlens inside;
  inside.reserve(documents.size());
  Index before = 0;  // tokens of the ranges that end before a document does
  auto range = ranges.begin();
  for (const std::int32_t end : documents) {
    for (; range != ranges.end() && range->end <= end; ++range) before += range->size();
    const Index begun = range == ranges.end() ? 0 : std::max<Index>(0, end - range->begin);
    inside.push_back(static_cast<std::int32_t>(before + begun));
  }
  return inside;
}

}  // namespace longspan::nn
