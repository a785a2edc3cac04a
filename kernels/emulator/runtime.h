// The part of the CUDA runtime API that Quiver uses. A stream runs what it is given at once; while it is being captured it
// keeps it for the graph, and what may not be captured fails as it would on a GPU.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal = 0 };

struct EmulatedGraph {
  std::vector<std::function<int()>> nodes;
};
struct EmulatedStream {
  EmulatedGraph *capturing = nullptr;
  bool is_invalidated = false;
};
using cudaStream_t = EmulatedStream *;
using cudaGraph_t = EmulatedGraph *;
using cudaGraphExec_t = EmulatedGraph *;

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);

/** Memory of exactly this size, filled with 0xff: floats of any width in it are NaN until they are written. */
cudaError_t cudaMalloc(void **memory, size_t bytes);
template <typename T>
cudaError_t cudaMalloc(T **memory, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemset(void *to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

namespace emulator {
cudaError_t allow_shared(const void *function, int bytes);
/** Most dynamic shared memory that this kernel may be launched with, in bytes. */
size_t shared_limit(const void *function);
/** Runs the work, or keeps it for the graph that the stream is captured into. Its error is what cudaGetLastError tells next. */
void submit(cudaStream_t stream, std::function<int()> work);
}  // namespace emulator

template <typename F>
cudaError_t cudaFuncSetAttribute(F *function, cudaFuncAttribute, int bytes) {
  return emulator::allow_shared(reinterpret_cast<const void *>(function), bytes);
}
