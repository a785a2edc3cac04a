// Memory, streams and graphs of the shim. Nothing here is a GPU's speed or order of events: a stream is a list that runs at once.
#include "runtime.h"

#include <cstdlib>
#include <cstring>
#include <map>

#include "core.h"

namespace {

constexpr size_t default_shared_bytes = 48 << 10;
constexpr size_t largest_shared_bytes = 227 << 10;
// Few, so that kernels whose blocks walk over more work than there are blocks do so here too.
constexpr int multiprocessors = 2;

struct Runtime {
  cudaError_t last = cudaSuccess;
  std::map<const void *, size_t> shared_limits;
  // Streams under capture. Any call that would have to wait for the device spoils them, whichever stream it names.
  std::vector<cudaStream_t> capturing;
};

Runtime &runtime() {
  static Runtime one;
  return one;
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) runtime().last = error;
  return error;
}

/** Calls that allocate or wait are not allowed while a stream is captured, and end the capture. */
bool spoils_capture() {
  for (cudaStream_t stream : runtime().capturing) stream->is_invalidated = true;
  return !runtime().capturing.empty();
}

}  // namespace

namespace emulator {

cudaError_t allow_shared(const void *function, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > largest_shared_bytes) return remember(cudaErrorInvalidValue);
  runtime().shared_limits[function] = bytes;
  return cudaSuccess;
}

size_t shared_limit(const void *function) {
  const auto found = runtime().shared_limits.find(function);
  return found == runtime().shared_limits.end() ? default_shared_bytes : found->second;
}

void submit(cudaStream_t stream, std::function<int()> work) {
  if (stream != nullptr && stream->capturing != nullptr) stream->capturing->nodes.push_back(std::move(work));
  else remember(static_cast<cudaError_t>(work()));
}

}  // namespace emulator

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() {
  const cudaError_t last = runtime().last;
  runtime().last = cudaSuccess;
  return last;
}
cudaError_t cudaPeekAtLastError() { return runtime().last; }

cudaError_t cudaDriverGetVersion(int *version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return remember(cudaErrorInvalidValue);
  *value = attribute == cudaDevAttrMultiProcessorCount ? multiprocessors : attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
  if (spoils_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  *memory = nullptr;
  // As aligned as a GPU's, and not a byte longer than asked for: the address checker watches its end.
  if (bytes > 0 && posix_memalign(memory, 256, bytes) != 0) return remember(cudaErrorMemoryAllocation);
  if (bytes > 0) memset(*memory, 0xff, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
  if (spoils_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind) {
  if (spoils_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  emulator::submit(stream, [=] {
    memcpy(to, from, bytes);
    return 0;
  });
  return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
  if (spoils_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  emulator::submit(stream, [=] {
    memset(to, value, bytes);
    return 0;
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  *stream = new EmulatedStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return spoils_capture() ? remember(cudaErrorStreamCaptureUnsupported) : cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return spoils_capture() ? remember(cudaErrorStreamCaptureUnsupported) : cudaSuccess; }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->capturing != nullptr) return remember(cudaErrorInvalidValue);
  stream->capturing = new EmulatedGraph;
  stream->is_invalidated = false;
  runtime().capturing.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  if (stream == nullptr || stream->capturing == nullptr) return remember(cudaErrorInvalidValue);
  *graph = stream->capturing;
  stream->capturing = nullptr;
  std::vector<cudaStream_t> &capturing = runtime().capturing;
  for (size_t at = capturing.size(); at-- > 0;) {
    if (capturing[at] == stream) capturing.erase(capturing.begin() + at);
  }
  if (!stream->is_invalidated) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  return remember(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  *executable = new EmulatedGraph(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const std::function<int()> &node : executable->nodes) emulator::submit(stream, node);
  return cudaPeekAtLastError();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
