// lora_prefill_expand; its contract stands at the head of lora_prefill.cuh.
#pragma once

#include "lora_prefill.cuh"

namespace quiver {

// Columns of y that the four warps of a block have at a time, 32 each.
constexpr int kExpandTileColumns = 128;
constexpr int kExpandTileVectors = kExpandTileColumns / kVector;
// Ranks of one step: the depth of one product.
constexpr int kRankStep = 16;
// Floats of a row in a warp's place for its results: 32 and four more, so that rows begin in different banks.
constexpr int kResultStride = 36;

// Shared memory of the expand kernel.
template <typename T>
struct ExpandMemory {
  // Values of a row of `upper` and `lower`: 16 bytes more than the ranks, so that rows begin in different banks.
  int stride;
  // [kTileRows, stride] hidden, rounded, and what the rounding left
  T *upper, *lower;
  // [kPrefillStages, kRankStep, kExpandTileColumns]
  T *stages;
  // [warps, 16, kResultStride]
  float *results;
  // [kTileRows]
  int *rows;

  __host__ __device__ static constexpr int stride_of(int max_rank) { return DivideUp(max_rank, kRankStep) * kRankStep + kVector; }
  static constexpr size_t bytes(int max_rank) {
    return (2 * kTileRows * static_cast<size_t>(stride_of(max_rank)) + kPrefillStages * kRankStep * kExpandTileColumns) * sizeof(T) +
           (kPrefillThreads / kWarp * 16 * kResultStride) * sizeof(float) + kTileRows * sizeof(int);
  }
  __device__ __forceinline__ ExpandMemory(T *shared, int max_rank) : stride(stride_of(max_rank)) {
    upper = shared;
    lower = upper + kTileRows * stride;
    stages = lower + kTileRows * stride;
    results = reinterpret_cast<float *>(stages + kPrefillStages * kRankStep * kExpandTileColumns);
    rows = reinterpret_cast<int *>(results + kPrefillThreads / kWarp * 16 * kResultStride);
  }
  __device__ __forceinline__ T *stage(int at) const { return stages + at * kRankStep * kExpandTileColumns; }
};

__device__ __forceinline__ int expand_place(int rank, int vector) {
  return rank * kExpandTileColumns + (vector ^ (rank % 8)) * kVector;
}

// value = upper + lower, each of 16 bits. A finite value that half cannot hold is shared out between the two.
__device__ __forceinline__ float upper_of(float value, half) {
  const bool is_finite = value - value == 0.0f;
  return !is_finite || (value >= -65504.0f && value <= 65504.0f) ? value : value < 0 ? -65504.0f : 65504.0f;
}
__device__ __forceinline__ float upper_of(float value, bfloat16) { return value; }

// Sums the splits of `hidden` for the tile's rows and lays them out for ldmatrix; zeros past the rows and past the rank.
template <typename T>
__device__ __forceinline__ void load_hidden(const LoraArguments<T> &args, const ExpandMemory<T> &memory, const Segment &tile,
                                            const ExpandPart &part) {
  const int ranks = DivideUp(part.rank, kRankStep) * kRankStep;
  for (int at = static_cast<int>(threadIdx.x); at < kTileRows * ranks; at += kPrefillThreads) {
    const int row = at / ranks, rank = at % ranks;
    float value = 0;
    if (row < tile.rows && rank < part.rank) {
      const float *hidden = args.hidden + static_cast<int64_t>(tile.first + row) * args.width + part.hidden_column + rank;
      for (int split = 0; split < args.splits; split++) value += hidden[static_cast<int64_t>(split) * args.rows * args.width];
    }
    const T upper = from_float<T>(upper_of(value, T{}));
    const bool is_finite = value - value == 0.0f;
    memory.upper[row * memory.stride + rank] = upper;
    memory.lower[row * memory.stride + rank] = from_float<T>(is_finite ? value - to_float(upper) : 0.0f);
  }
}

// Starts copying 16 ranks of B for one tile of columns; zeros past the rank and past the last column.
template <typename T>
__device__ __forceinline__ void load_expand_step(const ExpandMemory<T> &memory, int stage, const T *b, int rank_begin, int rank,
                                                 int column, int out) {
#pragma unroll
  for (int turn = 0; turn < kRankStep * kExpandTileVectors / kPrefillThreads; turn++) {
    const int at = turn * kPrefillThreads + static_cast<int>(threadIdx.x);
    const int row = at / kExpandTileVectors, vector = at % kExpandTileVectors;
    const bool read = rank_begin + row < rank && column + vector * kVector < out;
    T *to = memory.stage(stage) + expand_place(row, vector);
    cp_async16(to, read ? b + static_cast<int64_t>(rank_begin + row) * out + column + vector * kVector : b, read);
  }
}

// Adds a warp's 16 x 32 results to y by way of shared memory, so that y is read and written 16 bytes at a time.
template <typename T>
__device__ __forceinline__ void add_results(const LoraArguments<T> &args, const ExpandMemory<T> &memory, const Segment &tile,
                                            const float (&sums)[4][4], int first_row, int column, int out, int y_column) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  float *results = memory.results + warp * 16 * kResultStride;
#pragma unroll
  for (int eight = 0; eight < 4; eight++) {
#pragma unroll
    for (int at = 0; at < 4; at++) {
      results[(lane / 4 + at / 2 * 8) * kResultStride + eight * 8 + lane % 4 * 2 + at % 2] = sums[eight][at];
    }
  }
  __syncwarp();
  const int own = lane % 4 * kVector;
#pragma unroll
  for (int turn = 0; turn < 2; turn++) {
    const int row = turn * 8 + lane / 4;
    if (first_row + row < tile.rows && column + own < out) {
      float values[kVector];
#pragma unroll
      for (int one = 0; one < kVector; one++) values[one] = results[row * kResultStride + own + one];
      add_to(args.y + static_cast<int64_t>(memory.rows[first_row + row]) * args.columns + y_column + column + own, values);
    }
  }
  // The next results go to the same memory.
  __syncwarp();
}

template <typename T>
__device__ __forceinline__ void prefill_expand_columns(const LoraArguments<T> &args, const ExpandMemory<T> &memory,
                                                       const Segment &tile, const ExpandPart &part, int column_tiles) {
  const LoraPairArguments<T> &pair = args.pair[part.pair];
  const T *b = pair.b + static_cast<int64_t>(tile.slot) * args.max_rank * pair.out;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int rank_steps = DivideUp(part.rank, kRankStep);
  const int left = DivideUp(pair.out - part.column, kExpandTileColumns);
  // Steps of all column tiles in one row: the first ranks of the next tile are under way while the last of this one are used.
  const int steps = (left < column_tiles ? left : column_tiles) * rank_steps;
  const auto load = [&](int step) {
    if (step < steps) {
      load_expand_step(memory, step % kPrefillStages, b, step % rank_steps * kRankStep, part.rank,
                       part.column + step / rank_steps * kExpandTileColumns, pair.out);
    }
    cp_commit();
  };
  float sums[2][4][4] = {};
#pragma unroll
  for (int step = 0; step < kPrefillStages - 1; step++) load(step);
  for (int step = 0; step < steps; step++) {
    cp_wait<kPrefillStages - 2>();
    // This step's B is here, of all threads (and `hidden`, before the first); the stage that is filled next is read by nobody.
    __syncthreads();
    load(step + kPrefillStages - 1);
    const int rank_begin = step % rank_steps * kRankStep;
    const T *stage = memory.stage(step % kPrefillStages);
    unsigned weights[2][4];
#pragma unroll
    for (int pair_of_eights = 0; pair_of_eights < 2; pair_of_eights++) {
      ldmatrix_x4_trans(weights[pair_of_eights], stage + expand_place(lane % 16, warp * 4 + pair_of_eights * 2 + lane / 16));
    }
#pragma unroll
    for (int sixteen = 0; sixteen < 2; sixteen++) {
      const int place = (sixteen * 16 + lane % 16) * memory.stride + rank_begin + lane / 16 * kVector;
      unsigned upper[4], lower[4];
      ldmatrix_x4(upper, memory.upper + place);
      ldmatrix_x4(lower, memory.lower + place);
#pragma unroll
      for (int eight = 0; eight < 4; eight++) {
        const unsigned first = weights[eight / 2][eight % 2 * 2], second = weights[eight / 2][eight % 2 * 2 + 1];
        mma16816<T>(sums[sixteen][eight], upper, first, second);
        mma16816<T>(sums[sixteen][eight], lower, first, second);
      }
    }
    if (step % rank_steps < rank_steps - 1) continue;
    const int column = part.column + step / rank_steps * kExpandTileColumns + warp * 32;
#pragma unroll
    for (int sixteen = 0; sixteen < 2; sixteen++) {
      add_results(args, memory, tile, sums[sixteen], sixteen * 16, column, pair.out, pair.column);
#pragma unroll
      for (int eight = 0; eight < 4; eight++) {
#pragma unroll
        for (int at = 0; at < 4; at++) sums[sixteen][eight][at] = 0;
      }
    }
  }
  cp_wait<0>();
}

// `column_tiles`: tiles of columns that a block computes one after the other. `parts`: all pairs' columns in such parts.
template <typename T>
__global__ void __launch_bounds__(kPrefillThreads) lora_prefill_expand(const LoraArguments<T> args, int column_tiles, int parts) {
  DYNAMIC_SHARED(T, shared);
  const ExpandMemory<T> memory(shared, args.max_rank);
  const int tiles = args.plan.header->tiles;
  for (int item = static_cast<int>(blockIdx.x); item < tiles * parts; item += static_cast<int>(gridDim.x)) {
    const Segment tile = args.plan.tiles[item % tiles];
    const ExpandPart part = expand_part(args, tile.slot, item / tiles, column_tiles * kExpandTileColumns);
    if (part.rank == 0) continue;
    load_hidden(args, memory, tile, part);
    if (threadIdx.x < kTileRows && static_cast<int>(threadIdx.x) < tile.rows) {
      memory.rows[threadIdx.x] = args.plan.order[tile.first + static_cast<int>(threadIdx.x)];
    }
    prefill_expand_columns(args, memory, tile, part, column_tiles);
    // The next part is laid into the same memory.
    __syncthreads();
  }
}

}  // namespace quiver
