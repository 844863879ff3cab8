#pragma once

#include "backend/cuda/kernels/device.h"
#include "backend/cuda/queue.h"

namespace longspan::backend::cuda {

/// The tokens 0 .. tokens - 1 in the order of their ids, those of one id in their own order; ids
/// are compared by their lowest `id_bits` bits. A radix sort: its cost depends on the number of
/// tokens and, by one step a digit of 8 bits, on the vocabulary. Nothing waits for the device.
/// Scratch: order and sorted int32 [tokens], counts int32 [blocks of kSortTokens, kSortDigits],
/// starts int32 [kSortDigits]. Returns whichever of order and sorted holds the result.
const std::int32_t* sort_by_id(const Queue& queue, const std::int32_t* ids, Index tokens,
                               int id_bits, std::int32_t* order, std::int32_t* sorted,
                               std::int32_t* counts, std::int32_t* starts);

}  // namespace longspan::backend::cuda
