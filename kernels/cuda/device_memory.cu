// Memory and streams of a GPU. The contract is in device_memory.h.
#include "device_memory.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "gpu.cuh"
#include "lora_workspace.h"

struct quiver_device {
  cudaStream_t compute = nullptr, fill = nullptr;
  cudaEvent_t sent[QUIVER_STAGING_PARTS] = {}, fenced = nullptr;
  void *staging[QUIVER_STAGING_PARTS] = {};
  size_t part_bytes = 0;
};

namespace quiver {
namespace {

// Answers the error's number, with a sentence that says what was being done.
struct Outcome {
  char *text;
  size_t capacity;

  __attribute__((format(printf, 3, 4))) int operator()(cudaError_t error, const char *format, ...) const {
    if (error == cudaSuccess) return 0;
    // The error stays with the thread, and the next call would be blamed for it.
    cudaGetLastError();
    if (text == nullptr || capacity == 0) return static_cast<int>(error);
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text, capacity, format, arguments);
    va_end(arguments);
    if (length >= 0 && static_cast<size_t>(length) < capacity) {
      snprintf(text + length, capacity - length, ": %s (CUDA error %d)", cudaGetErrorString(error), static_cast<int>(error));
    }
    return static_cast<int>(error);
  }
};

unsigned long long Printed(uint64_t value) { return value; }

void *PointerTo(uint64_t address) { return reinterpret_cast<void *>(address); }

cudaError_t OpenParts(quiver_device *device) {
  if (const cudaError_t error = cudaStreamCreateWithFlags(&device->compute, cudaStreamNonBlocking)) return error;
  if (const cudaError_t error = cudaStreamCreateWithFlags(&device->fill, cudaStreamNonBlocking)) return error;
  if (const cudaError_t error = cudaEventCreateWithFlags(&device->fenced, cudaEventDisableTiming)) return error;
  for (int part = 0; part < QUIVER_STAGING_PARTS; part++) {
    if (const cudaError_t error = cudaEventCreateWithFlags(&device->sent[part], cudaEventDisableTiming)) return error;
    if (const cudaError_t error = cudaHostAlloc(&device->staging[part], device->part_bytes, cudaHostAllocDefault)) return error;
  }
  return cudaSuccess;
}

void CloseParts(quiver_device *device) {
  for (int part = 0; part < QUIVER_STAGING_PARTS; part++) {
    if (device->staging[part] != nullptr) cudaFreeHost(device->staging[part]);
    if (device->sent[part] != nullptr) cudaEventDestroy(device->sent[part]);
  }
  if (device->fenced != nullptr) cudaEventDestroy(device->fenced);
  if (device->fill != nullptr) cudaStreamDestroy(device->fill);
  if (device->compute != nullptr) cudaStreamDestroy(device->compute);
}

// The most scratch that any call of at most so many rows needs: its sums are split further the fewer rows there are, but splits
// times rows stays below twice what fills the device (lora.cu, SplitsOf).
size_t MostScratchBytes(int64_t rows, int64_t max_rank) {
  constexpr int64_t most_splits = 8, most_split_rows = 8192;
  const int64_t split_rows = std::max(rows, std::min(rows * most_splits, most_split_rows));
  return split_rows * QUIVER_LORA_MAX_PAIRS * max_rank * sizeof(float);
}

int64_t PlanBytesOf(int64_t rows, int64_t slots) {
  quiver_lora_call call{};
  call.type = QUIVER_LORA_HALF;
  call.pair_count = 1;
  call.rows = rows;
  call.slots = slots;
  call.in = call.columns = call.pairs[0].out = 8;
  call.max_rank = 1;
  size_t plan_bytes = 0, scratch_bytes = 0;
  return quiver_lora_sizes(&call, &plan_bytes, &scratch_bytes, nullptr, 0) == QUIVER_OK ? static_cast<int64_t>(plan_bytes) : -1;
}

void GiveBackWorkspace(const quiver_device *device) {
  void *plan = nullptr, *scratch = nullptr;
  RemoveWorkspace(device->compute, &plan, &scratch);
  if (plan != nullptr) cudaFree(plan);
  if (scratch != nullptr) cudaFree(scratch);
}

}  // namespace
}  // namespace quiver

using quiver::Outcome;
using quiver::PointerTo;
using quiver::Printed;

extern "C" int quiver_cuda_interface(void) { return QUIVER_CUDA_INTERFACE; }

extern "C" int quiver_device_open(size_t part_bytes, quiver_device **device, char *text, size_t capacity) {
  const Outcome outcome{text, capacity};
  *device = nullptr;
  if (const int code = outcome(cudaSetDevice(0), "the GPU cannot be opened")) return code;
  quiver_device *made = new quiver_device;
  made->part_bytes = part_bytes;
  if (const int code = outcome(quiver::OpenParts(made), "the GPU's streams and %zu bytes of pinned memory cannot be had",
                               part_bytes * QUIVER_STAGING_PARTS)) {
    quiver::CloseParts(made);
    delete made;
    return code;
  }
  *device = made;
  return 0;
}

extern "C" void quiver_device_close(quiver_device *device) {
  if (device == nullptr) return;
  cudaStreamSynchronize(device->fill);
  cudaStreamSynchronize(device->compute);
  quiver::GiveBackWorkspace(device);
  quiver::CloseParts(device);
  delete device;
}

extern "C" uint64_t quiver_device_stream(const quiver_device *device) { return reinterpret_cast<uint64_t>(device->compute); }

extern "C" uint64_t quiver_device_staging(const quiver_device *device, int part) {
  return part < 0 || part >= QUIVER_STAGING_PARTS ? 0 : reinterpret_cast<uint64_t>(device->staging[part]);
}

extern "C" int quiver_device_memory(quiver_device *, uint64_t *free_bytes, uint64_t *total_bytes, char *text, size_t capacity) {
  size_t free = 0, total = 0;
  const int code = Outcome{text, capacity}(cudaMemGetInfo(&free, &total), "the GPU does not say how much memory it has");
  *free_bytes = free;
  *total_bytes = total;
  return code;
}

extern "C" int quiver_device_allocate(quiver_device *device, uint64_t bytes, uint64_t *memory, char *text, size_t capacity) {
  const Outcome outcome{text, capacity};
  void *made = nullptr;
  *memory = 0;
  if (const int code = outcome(cudaMalloc(&made, bytes), "%llu bytes of GPU memory cannot be had", Printed(bytes))) return code;
  const cudaError_t cleared = cudaMemsetAsync(made, 0, bytes, device->compute);
  if (const int code = outcome(cleared, "%llu bytes of GPU memory cannot be cleared", Printed(bytes))) {
    cudaFree(made);
    return code;
  }
  *memory = reinterpret_cast<uint64_t>(made);
  return 0;
}

extern "C" void quiver_device_free(quiver_device *, uint64_t memory) { cudaFree(PointerTo(memory)); }

extern "C" int quiver_device_copy(quiver_device *device, uint64_t to, uint64_t from, uint64_t width, uint64_t pitch, uint64_t height,
                                  char *text, size_t capacity) {
  if (width == 0 || height == 0) return 0;
  return Outcome{text, capacity}(cudaMemcpy2DAsync(PointerTo(to), pitch, PointerTo(from), pitch, width, height,
                                                   cudaMemcpyDeviceToDevice, device->compute),
                                 "%llu runs of %llu bytes were not copied", Printed(height), Printed(width));
}

extern "C" int quiver_device_read(quiver_device *device, void *to, uint64_t from, uint64_t bytes, char *text, size_t capacity) {
  const Outcome outcome{text, capacity};
  if (bytes == 0) return 0;
  const cudaError_t copied = cudaMemcpyAsync(to, PointerTo(from), bytes, cudaMemcpyDeviceToHost, device->compute);
  if (const int code = outcome(copied, "%llu bytes were not read back", Printed(bytes))) return code;
  return outcome(cudaStreamSynchronize(device->compute), "%llu bytes were not read back", Printed(bytes));
}

extern "C" int quiver_device_send(quiver_device *device, int part, const quiver_device_piece *pieces, uint64_t count, char *text,
                                  size_t capacity) {
  const Outcome outcome{text, capacity};
  if (part < 0 || part >= QUIVER_STAGING_PARTS) return outcome(cudaErrorInvalidValue, "there is no staging part %d", part);
  for (uint64_t at = 0; at < count; at++) {
    const quiver_device_piece &piece = pieces[at];
    if (piece.bytes > device->part_bytes || piece.offset > device->part_bytes - piece.bytes) {
      return outcome(cudaErrorInvalidValue, "a piece of %llu bytes at %llu is not in a staging part", Printed(piece.bytes),
                     Printed(piece.offset));
    }
    const char *from = static_cast<const char *>(device->staging[part]) + piece.offset;
    const cudaError_t copied = cudaMemcpyAsync(PointerTo(piece.to), from, piece.bytes, cudaMemcpyHostToDevice, device->fill);
    if (const int code = outcome(copied, "%llu bytes of an adapter were not sent to the GPU", Printed(piece.bytes))) return code;
  }
  return outcome(cudaEventRecord(device->sent[part], device->fill), "the end of an adapter's part cannot be marked");
}

extern "C" int quiver_device_is_free(quiver_device *device, int part, int *is_free, char *text, size_t capacity) {
  const cudaError_t error = cudaEventQuery(device->sent[part]);
  *is_free = error == cudaSuccess;
  if (error != cudaErrorNotReady) return Outcome{text, capacity}(error, "an adapter did not arrive on the GPU");
  cudaGetLastError();
  return 0;
}

extern "C" int quiver_device_fence(quiver_device *device, char *text, size_t capacity) {
  const Outcome outcome{text, capacity};
  if (const int code = outcome(cudaEventRecord(device->fenced, device->fill), "the end of an adapter cannot be marked")) return code;
  return outcome(cudaStreamWaitEvent(device->compute, device->fenced, 0), "the next step cannot be made to wait for an adapter");
}

extern "C" int quiver_device_wait(quiver_device *device, char *text, size_t capacity) {
  return Outcome{text, capacity}(cudaStreamSynchronize(device->compute), "the GPU did not finish what it was given");
}

extern "C" int quiver_lora_reserve(quiver_device *device, int64_t rows, int64_t slots, int64_t max_rank, char *text,
                                   size_t capacity) {
  const Outcome outcome{text, capacity};
  const int64_t plan_bytes = quiver::PlanBytesOf(rows, slots);
  if (plan_bytes < 0 || rows < 1 || max_rank < 1 || max_rank > QUIVER_LORA_MAX_RANK) {
    return outcome(cudaErrorInvalidValue, "the LoRA kernels compute 1 to %d rows with 1 to %d slots of ranks to %d, not %lld, %lld and %lld",
                   QUIVER_LORA_MAX_ROWS, QUIVER_LORA_MAX_SLOTS, QUIVER_LORA_MAX_RANK, static_cast<long long>(rows),
                   static_cast<long long>(slots), static_cast<long long>(max_rank));
  }
  quiver::GiveBackWorkspace(device);
  quiver::LoraWorkspace made;
  made.stream = device->compute;
  made.plan_bytes = static_cast<size_t>(plan_bytes);
  made.scratch_bytes = quiver::MostScratchBytes(rows, max_rank);
  const uint64_t bytes = made.plan_bytes + made.scratch_bytes;
  if (const int code = outcome(cudaMalloc(&made.plan, made.plan_bytes), "%llu bytes for adapters cannot be had", Printed(bytes))) {
    return code;
  }
  if (const int code = outcome(cudaMalloc(&made.scratch, made.scratch_bytes), "%llu bytes for adapters cannot be had", Printed(bytes))) {
    cudaFree(made.plan);
    return code;
  }
  quiver::AddWorkspace(made);
  return 0;
}
