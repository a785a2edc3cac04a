// The kernels for segments of more than kDecodeRows rows, as when a prompt is read: products of tiles on tensor cores.
//
// lora_prefill_shrink: hidden[split, p, c] = scale[s] · Σ_{i in split} A[s, c, i] · x[order[p], i]
//   A       [slots, max_rank, in] of each pair   half or bfloat16, 16-byte aligned   in % 8 == 0; rows past the rank are not read
//   x       [rows, in]                           the same
//   hidden  [splits, rows, width]                float   the ranks of all pairs side by side; overwritten
//   One block for a tile of kTileRows rows, up to 128 columns of all pairs' ranks side by side (x is read once for all pairs whose
//   ranks sum to 128), and one split of `in`. Steps of 64 values of x and A come by cp.async, three steps under way.
//   Moves at least 2 · in · (rows + Σ ranks) bytes for each tile.
//
// lora_prefill_expand: y[order[p], column + o] += Σ_r (Σ_split hidden[split, p, r]) · B[s, r, o]
//   B       [slots, max_rank, out] of each pair  half or bfloat16, 16-byte aligned   out % 8 == 0; rows past the rank are not read
//   y       [rows, columns]                      the same, columns % 8 == 0   accumulated into, in place
//   One block for a tile of rows and some tiles of 128 columns; B comes by cp.async, 16 ranks at a time, three steps under way.
//   Moves at least 4 · out bytes for each row (y in and out) and 2 · rank · out for each tile.
//
// Tensor cores take 16-bit values and sum in float. `hidden` is a sum, so it goes into the second product as two such values, the
// rounded one and what the rounding left: else a row's result would depend on whether it came alone or in company. (In half, sums
// beyond 131,008 become infinite.) y is rounded once. Results differ from the exact ones by half a unit in y's last place and 2e-5
// of the sum of the products' magnitudes (test/kernels/cuda/lora-kernels.test.ts). Ranks are rounded up to 16 with zeros that are
// not read from anywhere. A NaN or an infinity in x reaches its own row only, one in A or B the rows of its slot only.
#pragma once

#include "lora_call.cuh"
#include "lora_decode.cuh"

namespace quiver {

constexpr int kPrefillThreads = 128;
constexpr int kPrefillStages = 3;
// Values of x and A in one step: 128 bytes of each row, so that eight rows touch all banks of shared memory.
constexpr int kStep = 64;
constexpr int kStepVectors = kStep / kVector;
// Most columns of `hidden` that one block computes.
constexpr int kShrinkTileColumns = 128;

// Columns of `hidden` in a block's tile of A, for the most that a call can have: a power of two from 16.
__host__ __device__ constexpr int ShrinkTileColumns(int width) { return width <= 16 ? 16 : width <= 32 ? 32 : width <= 64 ? 64 : kShrinkTileColumns; }

// Shared memory of the shrink kernel: the stages, each with kTileRows rows of x and `columns` rows of A; then where those begin.
template <typename T>
struct ShrinkMemory {
  T *stages;
  int columns;
  const T **row_of_a;
  const T **row_of_x;

  static constexpr size_t bytes(int columns) {
    return static_cast<size_t>(kPrefillStages) * (kTileRows + columns) * kStep * 2 + (columns + kTileRows) * sizeof(void *);
  }
  __device__ __forceinline__ ShrinkMemory(T *shared, int columns) : stages(shared), columns(columns) {
    row_of_a = reinterpret_cast<const T **>(shared + kPrefillStages * (kTileRows + columns) * kStep);
    row_of_x = row_of_a + columns;
  }
  __device__ __forceinline__ T *x(int stage) const { return stages + stage * (kTileRows + columns) * kStep; }
  __device__ __forceinline__ T *a(int stage) const { return x(stage) + kTileRows * kStep; }
};

// Where 8 values lie in a row of a step: turned by the row, so that the same 8 of eight rows lie in different banks.
__device__ __forceinline__ int step_place(int row, int vector) { return row * kStep + (vector ^ (row % 8)) * kVector; }

// Starts copying one step of x and A; zeros where there is no row or no more of `in`.
template <typename T, int columns>
__device__ __forceinline__ void load_shrink_step(const ShrinkMemory<T> &memory, int stage, int k, int end) {
  static_assert((kTileRows + columns) * kStepVectors % kPrefillThreads == 0, "every thread copies the same number of vectors");
  // Copies wait for nothing, so that unrolling further would only take registers.
#pragma unroll 2
  for (int turn = 0; turn < (kTileRows + columns) * kStepVectors / kPrefillThreads; turn++) {
    const int at = turn * kPrefillThreads + static_cast<int>(threadIdx.x);
    const int row = at / kStepVectors, vector = at % kStepVectors;
    const bool is_x = row < kTileRows;
    const T *from = is_x ? memory.row_of_x[row] : memory.row_of_a[row - kTileRows];
    T *to = is_x ? memory.x(stage) + step_place(row, vector) : memory.a(stage) + step_place(row - kTileRows, vector);
    const bool read = from != nullptr && k + vector * kVector < end;
    // Where nothing is read the source must still be an address of global memory.
    cp_async16(to, read ? from + k + vector * kVector : memory.row_of_x[0], read);
  }
}

// One tile with `eights` · 16 columns of hidden: two warps for its rows times two for its columns.
template <typename T, int eights>
__device__ __forceinline__ void prefill_shrink_tile(const LoraArguments<T> &args, const ShrinkMemory<T> &memory,
                                                    const Segment &tile, int first_column, int columns, int split) {
  constexpr int tile_columns = eights * 16;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warp_row = warp / 2 * 16, warp_column = warp % 2 * eights * 8;
  const int begin = split * args.split_in;
  const int end = begin + args.split_in < args.in ? begin + args.split_in : args.in;
  const int steps = DivideUp(end - begin, kStep);
  float sums[eights][4] = {};
#pragma unroll
  for (int step = 0; step < kPrefillStages - 1; step++) {
    if (step < steps) load_shrink_step<T, tile_columns>(memory, step, begin + step * kStep, end);
    cp_commit();
  }
  for (int step = 0; step < steps; step++) {
    cp_wait<kPrefillStages - 2>();
    // This step's values of all threads are here, and nobody reads the stage that is filled next any more.
    __syncthreads();
    const int next = step + kPrefillStages - 1;
    if (next < steps) load_shrink_step<T, tile_columns>(memory, next % kPrefillStages, begin + next * kStep, end);
    cp_commit();
    const T *x = memory.x(step % kPrefillStages), *a = memory.a(step % kPrefillStages);
#pragma unroll
    for (int half_step = 0; half_step < 2; half_step++) {
      const int vector = half_step * 4;
      unsigned rows[2][4];
#pragma unroll
      for (int k = 0; k < 2; k++) ldmatrix_x4(rows[k], x + step_place(warp_row + lane % 16, vector + k * 2 + lane / 16));
#pragma unroll
      for (int eight = 0; eight < eights; eight++) {
        unsigned weights[4];
        ldmatrix_x4(weights, a + step_place(warp_column + eight * 8 + lane % 8, vector + lane / 8));
        mma16816<T>(sums[eight], rows[0], weights[0], weights[1]);
        mma16816<T>(sums[eight], rows[1], weights[2], weights[3]);
      }
    }
  }
  cp_wait<0>();
  const float scale = args.scale[tile.slot];
  float *hidden = args.hidden + static_cast<int64_t>(split) * args.rows * args.width;
#pragma unroll
  for (int eight = 0; eight < eights; eight++) {
#pragma unroll
    for (int at = 0; at < 4; at++) {
      const int row = warp_row + lane / 4 + at / 2 * 8, column = warp_column + eight * 8 + lane % 4 * 2 + at % 2;
      if (row < tile.rows && column < columns) {
        hidden[static_cast<int64_t>(tile.first + row) * args.width + first_column + column] = sums[eight][at] * scale;
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kPrefillThreads, 3) lora_prefill_shrink(const LoraArguments<T> args) {
  DYNAMIC_SHARED(T, shared);
  const ShrinkMemory<T> memory(shared, ShrinkTileColumns(args.width));
  const int tiles = args.plan.header->tiles, thread = static_cast<int>(threadIdx.x);
  const int items = tiles * args.splits * DivideUp(args.width, kShrinkTileColumns);
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
    const Segment tile = args.plan.tiles[item % tiles];
    const int split = item / tiles % args.splits;
    const int first_column = item / tiles / args.splits * kShrinkTileColumns;
    const int left = args.width_of(tile.slot) - first_column;
    if (left <= 0) continue;
    const int columns = left < kShrinkTileColumns ? left : kShrinkTileColumns;
    for (int at = thread; at < memory.columns; at += kPrefillThreads) {
      memory.row_of_a[at] = at < columns ? args.row_of_a(tile.slot, first_column + at) : nullptr;
    }
    if (thread < kTileRows) {
      memory.row_of_x[thread] =
          thread < tile.rows ? args.x + static_cast<int64_t>(args.plan.order[tile.first + thread]) * args.in : nullptr;
    }
    __syncthreads();
    if (columns <= 16) prefill_shrink_tile<T, 1>(args, memory, tile, first_column, columns, split);
    else if (columns <= 32) prefill_shrink_tile<T, 2>(args, memory, tile, first_column, columns, split);
    else if (columns <= 64) prefill_shrink_tile<T, 4>(args, memory, tile, first_column, columns, split);
    else prefill_shrink_tile<T, 8>(args, memory, tile, first_column, columns, split);
    // The next tile is laid into the same memory.
    __syncthreads();
  }
}

}  // namespace quiver
