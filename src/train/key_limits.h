#pragma once

// Bounds of keys of the job file.
namespace longspan::train {

/// Tokens of a row and ids are 32-bit; so is the step in the address of a random number.
inline constexpr double kMaxInt32 = 2147483647;
inline constexpr double kMaxSteps = 4294967295;
/// Far beyond any model, and small enough that products of two sizes do not overflow.
inline constexpr double kMaxWidth = 16777216;
inline constexpr double kMaxCount = 65536;
inline constexpr double kMaxTokens = 1e12;

}  // namespace longspan::train
