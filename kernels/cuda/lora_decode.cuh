// The kernels for segments of at most kDecodeRows rows: a few rows for each adapter, as when sequences are decoded.
//
// lora_decode_shrink: hidden[p, c] = scale[s] · Σ_i A[s, c, i] · x[order[p], i]
//   A       [slots, max_rank, in] of each pair   half or bfloat16, 16-byte aligned   in % 8 == 0; rows past the rank are not read
//   x       [rows, in]                           the same
//   hidden  [1, rows, width]                     float   the ranks of all pairs side by side; overwritten
//   One block for four rows of A: 256 threads walk along them, eight values at a time, and multiply each 16 bytes of A with
//   every row of the segment. Moves at least 2 · in · Σ ranks bytes for each segment, and 2 · in · rows of x.
//
// lora_decode_expand: y[order[p], column + o] += Σ_r hidden[p, r] · B[s, r, o]
//   B       [slots, max_rank, out] of each pair  half or bfloat16, 16-byte aligned   out % 8 == 0; rows past the rank are not read
//   y       [rows, columns]                      the same, columns % 8 == 0   accumulated into, in place
//   One block for 256 columns: four warps share the ranks, a lane has eight columns. Moves at least 2 · rank · out bytes for
//   each segment and pair, and 4 · out bytes for each row (y in and out).
//
// Every weight is read from memory once for a segment, however many rows it has. Blocks take (segment, part) pairs in turns, so
// ranks may differ: what is past a rank costs one look at it. Sums are in float; y is rounded once, so that it differs from the
// exact result by half a unit in its last place and 1e-5 of the sum of the products' magnitudes
// (test/kernels/cuda/lora-kernels.test.ts). A NaN or an infinity in x, A or B reaches no row of another slot, nor another row of
// the same slot if it came by x.
#pragma once

#include "lora_call.cuh"

namespace quiver {

constexpr int kShrinkThreads = 256;
constexpr int kShrinkWarps = kShrinkThreads / kWarp;
// Rows of A that a block reads side by side, so that a value of x is loaded and converted once for four products.
constexpr int kShrinkColumns = 4;
constexpr size_t DecodeShrinkSharedBytes() { return kShrinkWarps * kShrinkColumns * kDecodeRows * sizeof(float); }

// Sums each of `count` (1 … 32, a power of two) values over lanes whose numbers differ in the bits below 2 · `by`. Every step halves
// the values that a lane has left to sum, so that 32 values take 31 shuffles and not 160.
// @returns for by == 16, the sum of values[lane / (32 / count)] over the warp
template <int count, int by = kWarp / 2>
__device__ __forceinline__ float sum_of_warp(const float (&values)[count]) {
  if constexpr (by == 0) {
    return values[0];
  } else if constexpr (count == 1) {
    const float sum[1] = {values[0] + __shfl_xor_sync(kAllLanes, values[0], by)};
    return sum_of_warp<1, by / 2>(sum);
  } else {
    const bool is_upper = (threadIdx.x & by) != 0;
    float sums[count / 2];
#pragma unroll
    for (int at = 0; at < count / 2; at++) {
      const float given = is_upper ? values[at] : values[at + count / 2];
      const float own = is_upper ? values[at + count / 2] : values[at];
      sums[at] = own + __shfl_xor_sync(kAllLanes, given, by);
    }
    return sum_of_warp<count / 2, by / 2>(sums);
  }
}

template <typename T, int most_rows>
__device__ __forceinline__ void decode_shrink_rows(const LoraArguments<T> &args, const Segment &segment, int column, int width,
                                                   float *partial) {
  const T *row_of_a[kShrinkColumns];
#pragma unroll
  for (int at = 0; at < kShrinkColumns; at++) {
    row_of_a[at] = column + at < width ? args.row_of_a(segment.slot, column + at) : nullptr;
  }
  // In vectors from the beginning of x: half the registers of pointers.
  unsigned row_of_x[most_rows];
#pragma unroll
  for (int at = 0; at < most_rows; at++) {
    const int row = args.plan.order[segment.first + (at < segment.rows ? at : 0)];
    row_of_x[at] = static_cast<unsigned>(row) * static_cast<unsigned>(args.in / kVector);
  }
  // [rows, columns]
  float sums[most_rows * kShrinkColumns] = {};
  // With few rows, two steps' loads at once; with many, the registers are taken.
#pragma unroll(most_rows <= 2 ? 2 : 1)
  for (int k = static_cast<int>(threadIdx.x) * kVector; k < args.in; k += kShrinkThreads * kVector) {
    uint4 vectors[kShrinkColumns];
#pragma unroll
    for (int at = 0; at < kShrinkColumns; at++) {
      vectors[at] = row_of_a[at] == nullptr ? make_uint4(0, 0, 0, 0) : load_vector(row_of_a[at] + k);
    }
    // Four values at a time: more would not fit into the registers of a thread with eight rows.
#pragma unroll
    for (int four = 0; four < kVector; four += 4) {
      float weights[kShrinkColumns][4];
#pragma unroll
      for (int at = 0; at < kShrinkColumns; at++) {
        to_floats<T>(weights[at], four == 0 ? make_uint2(vectors[at].x, vectors[at].y) : make_uint2(vectors[at].z, vectors[at].w));
      }
#pragma unroll
      for (int row = 0; row < most_rows; row++) {
        float values[4];
        const T *x = args.x + static_cast<size_t>(row_of_x[row]) * kVector + k + four;
        to_floats<T>(values, __ldg(reinterpret_cast<const uint2 *>(x)));
#pragma unroll
        for (int at = 0; at < kShrinkColumns; at++) {
#pragma unroll
          for (int one = 0; one < 4; one++) sums[row * kShrinkColumns + at] += weights[at][one] * values[one];
        }
      }
    }
  }
  const float sum = sum_of_warp<most_rows * kShrinkColumns>(sums);
  constexpr int count = kShrinkColumns * most_rows;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  if (lane % (kWarp / count) == 0) partial[thread / kWarp * count + lane / (kWarp / count)] = sum;
  __syncthreads();
  const int row = thread / kShrinkColumns, own = thread % kShrinkColumns;
  if (row < segment.rows && column + own < width) {
    float total = 0;
    for (int warp = 0; warp < kShrinkWarps; warp++) total += partial[warp * count + row * kShrinkColumns + own];
    args.hidden[static_cast<int64_t>(segment.first + row) * args.width + column + own] = total * args.scale[segment.slot];
  }
}

template <typename T>
__global__ void __launch_bounds__(kShrinkThreads, 2) lora_decode_shrink(const LoraArguments<T> args) {
  DYNAMIC_SHARED(float, partial);
  const int segments = args.plan.header->segments;
  const int items = segments * DivideUp(args.width, kShrinkColumns);
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
    // All segments' first parts come first: every adapter has them, and they spread over all blocks.
    const Segment segment = args.plan.segments[item % segments];
    const int column = item / segments * kShrinkColumns;
    const int width = args.width_of(segment.slot);
    if (column >= width) continue;
    if (segment.rows == 1) decode_shrink_rows<T, 1>(args, segment, column, width, partial);
    else if (segment.rows == 2) decode_shrink_rows<T, 2>(args, segment, column, width, partial);
    else if (segment.rows <= 4) decode_shrink_rows<T, 4>(args, segment, column, width, partial);
    else decode_shrink_rows<T, kDecodeRows>(args, segment, column, width, partial);
    // The next part's sums go to the same memory.
    __syncthreads();
  }
}

constexpr int kExpandWarps = 4;
constexpr int kExpandThreads = kExpandWarps * kWarp;
constexpr int kExpandColumns = kWarp * kVector;
// `rows` is the most that a segment of this call can have, rounded up as the kernel rounds it.
constexpr size_t DecodeExpandSharedBytes(int rows, int max_rank) {
  return (static_cast<size_t>(kExpandWarps) * rows * kExpandColumns + static_cast<size_t>(max_rank) * rows) * sizeof(float);
}
constexpr int DecodeRowsRoundedUp(int64_t rows) { return rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : kDecodeRows; }

// The part of a pair's columns that a block has, and where the pair's ranks begin in `hidden`.
struct ExpandPart {
  int pair;
  int column;
  int rank;
  int hidden_column;
};

template <typename T>
__device__ __forceinline__ ExpandPart expand_part(const LoraArguments<T> &args, int slot, int part, int part_columns) {
  ExpandPart found = {0, 0, 0, 0};
  for (;;) {
    const int parts = DivideUp(args.pair[found.pair].out, part_columns);
    found.rank = args.rank_of(found.pair, slot);
    if (part < parts) break;
    part -= parts;
    found.hidden_column += found.rank;
    found.pair++;
  }
  found.column = part * part_columns;
  return found;
}

template <typename T, int most_rows>
__device__ __forceinline__ void decode_expand_rows(const LoraArguments<T> &args, const Segment &segment, const ExpandPart &part,
                                                   float *shared) {
  // [rank, most_rows]
  float *hidden = shared;
  // [warps, most_rows, columns]
  float *partial = shared + part.rank * most_rows;
  const int thread = static_cast<int>(threadIdx.x);
  for (int at = thread; at < part.rank * most_rows; at += kExpandThreads) {
    const int row = at % most_rows;
    const int64_t place = static_cast<int64_t>(segment.first + row) * args.width + part.hidden_column + at / most_rows;
    hidden[at] = row < segment.rows ? args.hidden[place] : 0.0f;
  }
  __syncthreads();
  const LoraPairArguments<T> &pair = args.pair[part.pair];
  const int lane = thread % kWarp, warp = thread / kWarp;
  const int column = part.column + lane * kVector;
  float sums[most_rows][kVector] = {};
  if (column < pair.out) {
    const T *b = pair.b + static_cast<int64_t>(segment.slot) * args.max_rank * pair.out + column;
#pragma unroll(most_rows == kDecodeRows ? 2 : 4)
    for (int rank = warp; rank < part.rank; rank += kExpandWarps) {
      float weights[kVector];
      to_floats<T>(weights, load_vector(b + static_cast<int64_t>(rank) * pair.out));
#pragma unroll
      for (int row = 0; row < most_rows; row++) {
#pragma unroll
        for (int one = 0; one < kVector; one++) sums[row][one] += hidden[rank * most_rows + row] * weights[one];
      }
    }
  }
#pragma unroll
  for (int row = 0; row < most_rows; row++) {
#pragma unroll
    for (int one = 0; one < kVector; one++) {
      partial[(warp * most_rows + row) * kExpandColumns + lane * kVector + one] = sums[row][one];
    }
  }
  __syncthreads();
  for (int at = thread; at < segment.rows * kWarp; at += kExpandThreads) {
    const int row = at / kWarp, own = at % kWarp * kVector;
    if (part.column + own >= pair.out) continue;
    float values[kVector] = {};
    for (int other = 0; other < kExpandWarps; other++) {
#pragma unroll
      for (int one = 0; one < kVector; one++) values[one] += partial[(other * most_rows + row) * kExpandColumns + own + one];
    }
    const int64_t y_row = args.plan.order[segment.first + row];
    add_to(args.y + y_row * args.columns + pair.column + part.column + own, values);
  }
}

template <typename T>
__global__ void __launch_bounds__(kExpandThreads, 4) lora_decode_expand(const LoraArguments<T> args, int parts) {
  DYNAMIC_SHARED(float, shared);
  const int segments = args.plan.header->segments;
  for (int item = static_cast<int>(blockIdx.x); item < segments * parts; item += static_cast<int>(gridDim.x)) {
    const Segment segment = args.plan.segments[item % segments];
    const ExpandPart part = expand_part(args, segment.slot, item / segments, kExpandColumns);
    if (part.rank == 0) continue;
    if (segment.rows == 1) decode_expand_rows<T, 1>(args, segment, part, shared);
    else if (segment.rows == 2) decode_expand_rows<T, 2>(args, segment, part, shared);
    else if (segment.rows <= 4) decode_expand_rows<T, 4>(args, segment, part, shared);
    else decode_expand_rows<T, kDecodeRows>(args, segment, part, shared);
    // The next part is laid into the same memory.
    __syncthreads();
  }
}

}  // namespace quiver
