#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/sampler.h"

namespace longspan::train {

/// A stretch of a document that a model reads at once.
struct Window {
  data::Span span;
  std::int64_t counted = 0;  ///< first token of the file whose label counts here
};

/// How documents are cut into windows.
struct WindowOptions {
  std::int64_t length = 0;      ///< most tokens of a window
  std::int64_t stride = 0;      ///< at most the length
  std::int64_t max_tokens = 0;  ///< of the file, from its first; 0: all
};

/// The windows of all documents, in the file's order; every token counts in one of them.
std::vector<Window> cut_windows(const data::TokenFile& file, const WindowOptions& options);

/// Windows one after another into rows of at most `row_tokens` tokens, in order.
std::vector<std::vector<Window>> pack_windows(const std::vector<Window>& windows,
                                              std::int64_t row_tokens);

}  // namespace longspan::train
