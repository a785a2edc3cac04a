// The CUDA build of the LoRA kernels as its callers see it. Plain C, so that anything can call it.
//
//   y[t, column_m + o] += scale[s] · Σ_r B_m[s, r, o] · (Σ_i A_m[s, r, i] · x[t, i])      s = slot[t], r < rank_m[s]
//
// for every row t and every pair m. Modules that read the same x (q, k, v; gate, up) are the pairs of one call.
//
// All pointers are to the device's memory and belong to the caller. A call only adds kernels to `stream`: it does not allocate,
// does not wait, reads nothing back, and can be captured in a CUDA graph. What lies in device memory cannot be checked before the
// launch, so the kernels take a slot outside 0 … slots−1 or a rank outside 0 … max_rank for none: those rows keep their y.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define QUIVER_EXPORT_CUDA __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum { QUIVER_LORA_HALF = 1, QUIVER_LORA_BFLOAT16 = 2 };
enum { QUIVER_LORA_MAX_PAIRS = 8, QUIVER_LORA_MAX_RANK = 128, QUIVER_LORA_MAX_SLOTS = 8192, QUIVER_LORA_MAX_ROWS = 1 << 20 };

/** What a function answers; anything but OK comes with a sentence. */
enum { QUIVER_OK = 0, QUIVER_INVALID_ARGUMENT = 1, QUIVER_CUDA_ERROR = 2 };

typedef struct {
  const void *a;       /* [slots, max_rank, in]   rows past an adapter's rank are never read */
  const void *b;       /* [slots, max_rank, out]  the same */
  const int32_t *rank; /* [slots] */
  int64_t out;
  int64_t column;      /* first column of y that is this module's */
} quiver_lora_pair;

typedef struct {
  int32_t type; /* of x, y, a and b: QUIVER_LORA_HALF or QUIVER_LORA_BFLOAT16 */
  int32_t pair_count;
  int64_t rows, in, columns, slots, max_rank;
  void *y;             /* [rows, columns] accumulated into; must not overlap x */
  const void *x;       /* [rows, in] */
  const int32_t *slot; /* [rows] −1: no adapter */
  const float *scale;  /* [slots] */
  quiver_lora_pair pairs[QUIVER_LORA_MAX_PAIRS];
} quiver_lora_call;

/**
 * Device memory that a call needs: the plan, which depends on `slot` alone and may serve every call of a step that has the same
 * slots, and scratch, which is free again when the call's kernels have run. Both must be 16-byte aligned.
 */
QUIVER_EXPORT_CUDA int quiver_lora_sizes(const quiver_lora_call *call, size_t *plan_bytes, size_t *scratch_bytes, char *text,
                                         size_t capacity);
/** Groups the rows by slot. Reads `rows`, `slots` and `slot` of the call. */
QUIVER_EXPORT_CUDA int quiver_lora_plan(const quiver_lora_call *call, void *plan, size_t plan_bytes, void *stream, char *text,
                                        size_t capacity);
/** Computes by a plan that was made for the same rows, slots and slot. */
QUIVER_EXPORT_CUDA int quiver_lora_apply(const quiver_lora_call *call, const void *plan, size_t plan_bytes, void *scratch,
                                         size_t scratch_bytes, void *stream, char *text, size_t capacity);
/** Whether kernels can run here. Writes one sentence: the device, or what is missing. @returns QUIVER_OK if they can */
QUIVER_EXPORT_CUDA int quiver_cuda_describe(char *text, size_t capacity);

#ifdef __cplusplus
}
#endif
