// HEARTH_HOST_DEVICE: before a function that the host and, compiled by nvcc, a kernel call.
#pragma once

#ifdef __CUDACC__
#define HEARTH_HOST_DEVICE __host__ __device__
#else
#define HEARTH_HOST_DEVICE
#endif
