#pragma once

#include <string>
#include <string_view>
#include <vector>

// The few pieces that the program's pictures are made of; lengths are in pixels.
namespace longspan::train {

/// The beginning of a picture that is complete in itself: white, with a title that begins at
/// `left`.
/// "</svg>" ends it.
std::string open_svg(double width, double height, double left, std::string_view title);
std::string text_at(double x, double y, const char* style, std::string_view text);
std::string line_at(double x1, double y1, double x2, double y2, const char* colour);
/// Text for between tags, cut when it is long.
std::string escape(std::string_view text);

/// Multiples of 1, 2 or 5 times a power of ten, at least `smallest`, that lie in [low, high]: at
/// most `most` + 1 of them.
std::vector<double> nice_ticks(double low, double high, int most, double smallest);

/// Enough decimals to tell ticks of this spacing apart; thousands and millions as k and M.
std::string tick_text(double value, double spacing);

}  // namespace longspan::train
