#pragma once

/// Marks a function that runs on the processor and on a CUDA device alike.
#ifdef __CUDACC__
#define LONGSPAN_HOST_DEVICE __host__ __device__
#else
#define LONGSPAN_HOST_DEVICE
#endif
