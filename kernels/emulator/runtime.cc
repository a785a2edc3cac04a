// Memory, streams and graphs of the shim. Nothing here is a GPU's speed or order of events: a stream is a list that runs at once.
#include "runtime.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>

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
  std::vector<cudaStream_t> streams;
  std::map<const char *, size_t> pinned;
  std::string failing;
  cudaError_t planted = cudaSuccess, lost = cudaSuccess;
};

constexpr int first_lasting_error = 700, last_lasting_error = 899;

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

/** What was planted for this function (`emulator_fail`), or what an earlier one has left behind. */
cudaError_t planted(const char *function) {
  Runtime &own = runtime();
  if (own.lost != cudaSuccess) return remember(own.lost);
  if (own.failing != function) return cudaSuccess;
  own.failing.clear();
  if (own.planted >= first_lasting_error && own.planted <= last_lasting_error) own.lost = own.planted;
  return remember(own.planted);
}

void finish_late(cudaStream_t stream, size_t until) {
  while (stream != nullptr && stream->finished < until && !stream->late.empty()) {
    const std::function<int()> work = std::move(stream->late.front());
    stream->late.pop_front();
    stream->finished++;
    work();
  }
}
void finish_late(cudaStream_t stream) { finish_late(stream, static_cast<size_t>(-1)); }

bool is_pinned(const void *memory) {
  const char *at = static_cast<const char *>(memory);
  const auto next = runtime().pinned.upper_bound(at);
  if (next == runtime().pinned.begin()) return false;
  const auto &[start, bytes] = *std::prev(next);
  return at < start + bytes;
}

}  // namespace

extern "C" void emulator_fail(const char *function, int error) {
  Runtime &own = runtime();
  own.failing = function == nullptr ? "" : function;
  own.planted = static_cast<cudaError_t>(error);
  own.lost = own.last = cudaSuccess;
}

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
  else if (planted("launch") == cudaSuccess) {
    finish_late(stream);
    remember(static_cast<cudaError_t>(work()));
  }
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
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
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
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = planted("cudaSetDevice")) return error;
  return device == 0 ? cudaSuccess : remember(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  if (const cudaError_t error = planted("cudaMemGetInfo")) return error;
  *free = *total = size_t{1} << 30;
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
  if (const cudaError_t error = planted("cudaMalloc")) return error;
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

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (const cudaError_t error = planted("cudaMemcpyAsync")) return error;
  const auto copy = [=] {
    memcpy(to, from, bytes);
    return 0;
  };
  const bool is_late = kind == cudaMemcpyHostToDevice && stream != nullptr && stream->capturing == nullptr && is_pinned(from);
  if (is_late) stream->late.push_back(copy);
  else emulator::submit(stream, copy);
  return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind, cudaStream_t stream) {
  if (const cudaError_t error = planted("cudaMemcpy2DAsync")) return error;
  if (width > to_pitch || width > from_pitch) return remember(cudaErrorInvalidValue);
  emulator::submit(stream, [=] {
    for (size_t row = 0; row < height; row++) {
      memcpy(static_cast<char *>(to) + row * to_pitch, static_cast<const char *>(from) + row * from_pitch, width);
    }
    return 0;
  });
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
  if (const cudaError_t error = planted("cudaHostAlloc")) return error;
  *memory = nullptr;
  if (posix_memalign(memory, 256, bytes == 0 ? 1 : bytes) != 0) return remember(cudaErrorMemoryAllocation);
  memset(*memory, 0xff, bytes);
  runtime().pinned[static_cast<const char *>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void *memory) {
  runtime().pinned.erase(static_cast<const char *>(memory));
  free(memory);
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
  runtime().streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  if (const cudaError_t error = planted("cudaStreamCreateWithFlags")) return error;
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  finish_late(stream);
  std::vector<cudaStream_t> &streams = runtime().streams;
  for (size_t at = streams.size(); at-- > 0;) {
    if (streams[at] == stream) streams.erase(streams.begin() + at);
  }
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (spoils_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = planted("cudaStreamSynchronize")) return error;
  finish_late(stream);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  if (spoils_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = planted("cudaDeviceSynchronize")) return error;
  for (cudaStream_t stream : runtime().streams) finish_late(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = planted("cudaStreamWaitEvent")) return error;
  finish_late(event->stream, event->after);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  if (const cudaError_t error = planted("cudaEventCreateWithFlags")) return error;
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = planted("cudaEventRecord")) return error;
  *event = {stream, stream->finished + stream->late.size(), false};
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = planted("cudaEventQuery")) return error;
  if (event->stream == nullptr || event->stream->finished >= event->after) return cudaSuccess;
  if (!event->was_asked) {
    event->was_asked = true;
    return remember(cudaErrorNotReady);
  }
  finish_late(event->stream, event->after);
  return cudaSuccess;
}

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
