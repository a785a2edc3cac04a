// lora_plan: groups the rows of a call by slot.
//   slot   [rows]  int32   −1 = no adapter; anything else outside 0 … slots−1 is counted in `refused` and treated like it
//   plan   see lora_call.cuh; 16-byte aligned; overwritten
//
// Segments come in the order of their slots. One of at most kDecodeRows rows is listed for the decode kernels, a longer one is
// cut into tiles of kTileRows rows for the prefill kernels. The order of rows inside a segment is left open: no result
// depends on it. rows == 0 is legal and launches nothing.
//
// One block: a counting sort in shared memory, which needs 4 · slots bytes. Moves at least 8 · rows + 16 · segments bytes; what
// it costs is its launch, so one plan serves all calls of a step that have the same slots.
#pragma once

#include "lora_call.cuh"

namespace quiver {

constexpr int kPlanThreads = 256;
constexpr size_t PlanSharedBytes(int slots) { return (static_cast<size_t>(slots) + 3 * kPlanThreads / kWarp + 1) * sizeof(int); }

struct PlanCounts {
  int rows, segments, tiles;
};

// Sums of all threads before this one; `total` becomes the sum of all. `shared` holds 3 ints for each warp.
__device__ __forceinline__ PlanCounts sum_before(PlanCounts own, PlanCounts &total, int *shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = kPlanThreads / kWarp;
  int sums[3] = {own.rows, own.segments, own.tiles};
#pragma unroll
  for (int which = 0; which < 3; which++) {
    for (int by = 1; by < kWarp; by *= 2) {
      const int before = __shfl_up_sync(kAllLanes, sums[which], by);
      if (lane >= by) sums[which] += before;
    }
    if (lane == kWarp - 1) shared[which * warps + warp] = sums[which];
  }
  __syncthreads();
  int offsets[3] = {0, 0, 0}, totals[3] = {0, 0, 0};
#pragma unroll
  for (int which = 0; which < 3; which++) {
    for (int other = 0; other < warps; other++) {
      if (other == warp) offsets[which] = totals[which];
      totals[which] += shared[which * warps + other];
    }
  }
  // The next call writes the same memory.
  __syncthreads();
  total = {totals[0], totals[1], totals[2]};
  return {offsets[0] + sums[0] - own.rows, offsets[1] + sums[1] - own.segments, offsets[2] + sums[2] - own.tiles};
}

static __global__ void __launch_bounds__(kPlanThreads) lora_plan(Plan plan, const int *slot, int rows, int slots) {
  DYNAMIC_SHARED(int, shared);
  int *warp_sums = shared;
  int *refused = shared + 3 * kPlanThreads / kWarp;
  // First the rows of each slot, then the place of its next row.
  int *places = refused + 1;
  const int thread = static_cast<int>(threadIdx.x);
  for (int at = thread; at < slots; at += kPlanThreads) places[at] = 0;
  if (thread == 0) *refused = 0;
  __syncthreads();
  for (int row = thread; row < rows; row += kPlanThreads) {
    const int used = slot[row];
    if (used >= 0 && used < slots) atomicAdd(&places[used], 1);
    else if (used != -1) atomicAdd(refused, 1);
  }
  __syncthreads();
  PlanCounts base = {0, 0, 0};
  for (int begin = 0; begin < slots; begin += kPlanThreads) {
    const int own = begin + thread;
    const int count = own < slots ? places[own] : 0;
    const bool is_decode = count > 0 && count <= kDecodeRows;
    PlanCounts total;
    const PlanCounts before = sum_before({count, is_decode ? 1 : 0, is_decode ? 0 : DivideUp(count, kTileRows)}, total, warp_sums);
    const int first = base.rows + before.rows;
    if (is_decode) plan.segments[base.segments + before.segments] = {own, first, count, 0};
    else {
      Segment *tile = plan.tiles + base.tiles + before.tiles;
      for (int done = 0; done < count; done += kTileRows) {
        *tile++ = {own, first + done, count - done < kTileRows ? count - done : kTileRows, 0};
      }
    }
    if (own < slots) places[own] = first;
    base = {base.rows + total.rows, base.segments + total.segments, base.tiles + total.tiles};
  }
  __syncthreads();
  for (int row = thread; row < rows; row += kPlanThreads) {
    const int used = slot[row];
    if (used >= 0 && used < slots) plan.order[atomicAdd(&places[used], 1)] = row;
  }
  if (thread == 0) *plan.header = {*refused, base.segments, base.tiles, 0};
}

}  // namespace quiver
