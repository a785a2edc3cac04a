// What the library can say of the machine it was loaded on. Works without a driver.
#include <cstdio>

#include "gpu.cuh"
#include "lora.h"

extern "C" int quiver_cuda_describe(char *text, size_t capacity) {
  int driver = 0, count = 0, device = 0, major = 0, minor = 0;
  cudaDriverGetVersion(&driver);
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  if (error == cudaSuccess) error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (error != cudaSuccess) {
    // The error stays with the thread, and the next call would be blamed for it.
    cudaGetLastError();
    const char *missing = driver == 0 ? "no NVIDIA driver is installed here" : "no GPU can be used here";
    snprintf(text, capacity, "%s (%s, CUDA error %d)", missing, cudaGetErrorString(error), static_cast<int>(error));
    return QUIVER_CUDA_ERROR;
  }
  if (major < 8) {
    snprintf(text, capacity, "the GPU is of compute capability %d.%d, and the kernels need 8.0 or later", major, minor);
    return QUIVER_CUDA_ERROR;
  }
  snprintf(text, capacity, "%d GPU%s, the first of compute capability %d.%d", count, count == 1 ? "" : "s", major, minor);
  return QUIVER_OK;
}
