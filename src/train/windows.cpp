#include "train/windows.h"

#include <algorithm>

namespace longspan::train {

std::vector<Window> cut_windows(const data::TokenFile& file, const WindowOptions& options) {
  const std::int64_t all = file.tokens();
  const std::int64_t limit = options.max_tokens > 0 ? std::min(options.max_tokens, all) : all;
  std::vector<Window> windows;
  for (std::int64_t document = 0; document < file.documents(); ++document) {
    const std::int64_t document_begin = file.document_begin(document);
    if (document_begin >= limit) break;
    const std::int64_t document_end = std::min(file.document_begin(document + 1), limit);
    std::int64_t counted = document_begin;
    for (std::int64_t begin = document_begin; counted < document_end; begin += options.stride) {
      const std::int64_t end = std::min(begin + options.length, document_end);
      windows.push_back({{document, begin, end}, counted});
      counted = end;
    }
  }
  return windows;
}

std::vector<std::vector<Window>> pack_windows(const std::vector<Window>& windows,
                                              std::int64_t row_tokens) {
  std::vector<std::vector<Window>> rows;
  std::int64_t room = 0;
  for (const Window& window : windows) {
    const std::int64_t tokens = window.span.end - window.span.begin;
    if (rows.empty() || tokens > room) {
      rows.emplace_back();
      room = row_tokens;
    }
    rows.back().push_back(window);
    room -= tokens;
  }
  return rows;
}

}  // namespace longspan::train
