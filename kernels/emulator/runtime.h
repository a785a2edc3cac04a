// The part of the CUDA runtime API that Quiver uses. A stream runs what it is given at once; while it is being captured it
// keeps it for the graph, and what may not be captured fails as it would on a GPU.
//
// Only a copy out of pinned memory comes as late as it may: when something waits for it, when an event after it is asked for the
// second time, or when its stream is given something else. Who forgets to wait sees what was there before.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
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
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal = 0 };

struct EmulatedGraph {
  std::vector<std::function<int()>> nodes;
};
struct EmulatedStream {
  EmulatedGraph *capturing = nullptr;
  bool is_invalidated = false;
  std::deque<std::function<int()>> late;
  size_t finished = 0;  // of all that ever were late
};
struct EmulatedEvent {
  EmulatedStream *stream = nullptr;
  size_t after = 0;  // how many late ones have finished when it happens
  bool was_asked = false;
};
using cudaStream_t = EmulatedStream *;
using cudaEvent_t = EmulatedEvent *;
using cudaGraph_t = EmulatedGraph *;
using cudaGraphExec_t = EmulatedGraph *;

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
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
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream);
/** Pinned memory of the host, filled with 0xff. */
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemset(void *to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);

/**
 * The next call of the function of this name answers `error` instead of doing anything. From 700 on errors are of the kind that stays:
 * every call after it answers the same, as on a GPU whose context is lost, until `emulator_fail(nullptr, 0)`.
 */
extern "C" __attribute__((visibility("default"))) void emulator_fail(const char *function, int error);
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
