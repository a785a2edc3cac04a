// A GPU as the worker sees it: memory of its own, one stream that the model is computed on, and a second one by which adapters
// come into their slots. Plain C, called from Node through koffi.
//
// Every function answers 0, or CUDA's own error number with a sentence in `text`; what a number means for the process is the
// worker's to say (packages/worker/src/engine/onnx/device/device-faults.ts). Nothing here waits but `quiver_device_wait`,
// `quiver_device_open` and `quiver_device_close`.
//
// The compute stream is handed to ONNX Runtime, so that what is put on it here keeps its order with the graph's kernels. Adapters
// are copied by the fill stream, out of pinned memory that is divided into parts, each with an event that tells when it is free.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lora.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quiver_device quiver_device;

enum { QUIVER_STAGING_PARTS = 2 };

/** Grows with every change of what the worker calls (packages/worker/src/engine/onnx/device/cuda-device.ts has the same number). */
enum { QUIVER_CUDA_INTERFACE = 1 };
QUIVER_EXPORT_CUDA int quiver_cuda_interface(void);

/** One copy into a slot: where to, where from in the staging part, how much. */
typedef struct {
  uint64_t to, offset, bytes;
} quiver_device_piece;

/** Opens the first GPU: both streams, and pinned staging of `QUIVER_STAGING_PARTS` parts of `part_bytes`. */
QUIVER_EXPORT_CUDA int quiver_device_open(size_t part_bytes, quiver_device **device, char *text, size_t capacity);
/** Waits for both streams and gives everything back. */
QUIVER_EXPORT_CUDA void quiver_device_close(quiver_device *device);
/** Address of the compute stream, for ONNX Runtime's `user_compute_stream`. */
QUIVER_EXPORT_CUDA uint64_t quiver_device_stream(const quiver_device *device);
/** Address of a staging part in the host's memory. */
QUIVER_EXPORT_CUDA uint64_t quiver_device_staging(const quiver_device *device, int part);
/** Bytes of device memory that are free and that there are. */
QUIVER_EXPORT_CUDA int quiver_device_memory(quiver_device *device, uint64_t *free_bytes, uint64_t *total_bytes, char *text,
                                            size_t capacity);

/** Memory of zeros, 256-byte aligned. */
QUIVER_EXPORT_CUDA int quiver_device_allocate(quiver_device *device, uint64_t bytes, uint64_t *memory, char *text, size_t capacity);
QUIVER_EXPORT_CUDA void quiver_device_free(quiver_device *device, uint64_t memory);
/** Copies `height` runs of `width` bytes that stand `pitch` bytes apart, on the compute stream. The places must not overlap. */
QUIVER_EXPORT_CUDA int quiver_device_copy(quiver_device *device, uint64_t to, uint64_t from, uint64_t width, uint64_t pitch,
                                          uint64_t height, char *text, size_t capacity);
/** Reads memory back, in order with the compute stream, and waits for it; for tests and for the prefix cache. */
QUIVER_EXPORT_CUDA int quiver_device_read(quiver_device *device, void *to, uint64_t from, uint64_t bytes, char *text,
                                          size_t capacity);

/** Copies pieces of a staging part to the device on the fill stream. The part must not be written to until it is free again. */
QUIVER_EXPORT_CUDA int quiver_device_send(quiver_device *device, int part, const quiver_device_piece *pieces, uint64_t count,
                                          char *text, size_t capacity);
/** Whether what was last sent from a part has arrived: `*is_free` 1 or 0. */
QUIVER_EXPORT_CUDA int quiver_device_is_free(quiver_device *device, int part, int *is_free, char *text, size_t capacity);
/** What comes onto the compute stream from now on waits for everything that was sent until now. */
QUIVER_EXPORT_CUDA int quiver_device_fence(quiver_device *device, char *text, size_t capacity);
/** Waits until everything on the compute stream has been computed, and answers what went wrong on the device since. */
QUIVER_EXPORT_CUDA int quiver_device_wait(quiver_device *device, char *text, size_t capacity);

/**
 * Device memory that the LoRA operator computes with on this device's compute stream: for runs of at most `rows` rows with `slots`
 * slots of at most `max_rank`. Without it the operator refuses to run.
 */
QUIVER_EXPORT_CUDA int quiver_lora_reserve(quiver_device *device, int64_t rows, int64_t slots, int64_t max_rank, char *text,
                                           size_t capacity);

#ifdef __cplusplus
}
#endif
