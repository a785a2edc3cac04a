// The two halves of the low-rank product, as one instruction set computes them. Both work on rows that share an adapter. With
// attention.h and rows.h, all that an instruction set has.
#pragma once

#include <cstdint>

#include "../operator/lora_call.h"
#include "attention.h"
#include "rows.h"

namespace quiver::host {

// h[i, r] = scale · Σ_k A[r, k] · x[rows[i], k]
//   x [*, in] float     rows [count]     A [ranks, in], row-major     h [count, h_stride] float, overwritten
// Reads A once (ranks · in elements), from memory if it is not cached; x is read again for every few ranks, from the caches.
struct ShrinkTask {
  const float *x;
  int64_t in;
  const int32_t *rows;
  int count;
  const void *a;
  int ranks;
  float scale;
  float *h;
  int h_stride;
};

// y[rows[i], c] += Σ_r h[i, r] · B[r, c]     for begin <= c < end
//   y [*, y_stride] float, its first column being B's     B [ranks, out], row-major     h [count, h_stride] float
// Reads B's columns once; reads and writes y once for every kRankBlock ranks of few rows, once for many rows.
struct ExpandTask {
  float *y;
  int64_t y_stride;
  const int32_t *rows;
  int count;
  const void *b;
  int64_t out;
  int64_t begin;
  int64_t end;
  int ranks;
  const float *h;
  int h_stride;
};

// Any lengths, any alignment. Most ranks and rows of one task: they bound what lies on the stack.
constexpr int kMostRanks = 128;
constexpr int kMostRows = 32;
// From this many rows on, weights are first turned into float: it pays when each is used often (the prefill path).
constexpr int kManyRows = 8;
// Tasks cut columns at multiples of this.
constexpr int64_t kColumnUnit = 64;

struct HostKernels {
  const char *name;
  // By Element.
  void (*shrink[kElementCount])(const ShrinkTask &);
  void (*expand[kElementCount])(const ExpandTask &);
  AttentionKernels attention;
  RowKernels rows;
};

// nullptr where the library was built for another architecture.
const HostKernels *Avx512Kernels();
const HostKernels *Avx2Kernels();
const HostKernels *NeonKernels();
const HostKernels *ScalarKernels();

}  // namespace quiver::host
