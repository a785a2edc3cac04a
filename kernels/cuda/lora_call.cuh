// What the LoRA kernels share: their arguments, the plan's layout, and 16-byte loads.
#pragma once

#include "gpu.cuh"
#include "lora.h"

namespace quiver {

// A segment of at most this many rows is computed by the decode kernels, a longer one by the prefill kernels. Decoding reads a
// weight once and multiplies it with every row of the segment: up to about eight products for each 2 bytes it waits for memory,
// from there on for arithmetic, and tensor cores are worth their tiles.
constexpr int kDecodeRows = 8;
// Rows of a tile of the prefill kernels.
constexpr int kTileRows = 32;
constexpr int kWarp = 32;
// Values of 16 bits in 16 bytes.
constexpr int kVector = 8;
constexpr unsigned kAllLanes = 0xffffffffu;

__host__ __device__ constexpr int DivideUp(int value, int by) { return (value + by - 1) / by; }

// Rows of the call that use the same slot; or, for the prefill kernels, at most kTileRows of them.
struct alignas(16) Segment {
  int slot;
  // Place of its first row in `order`.
  int first;
  int rows;
  int unused;
};

// The plan as it lies in device memory: this, then `order`, then the segments of decoding, then the tiles of prefill.
struct alignas(16) PlanHeader {
  // Rows whose slot is neither −1 nor one of the slots. They are left as they are.
  int refused;
  int segments;
  int tiles;
  int unused;
};

struct Plan {
  PlanHeader *header;
  // [rows] numbers of rows, grouped by slot
  int *order;
  // [min(rows, slots)]
  Segment *segments;
  // [rows / (kDecodeRows + 1)]: a segment that is tiled has more than kDecodeRows rows, and 9 … 32 of them make one tile
  Segment *tiles;
};

constexpr int64_t MostSegments(int64_t rows, int64_t slots) { return rows < slots ? rows : slots; }
constexpr int64_t MostTiles(int64_t rows) { return rows / (kDecodeRows + 1); }
constexpr size_t PlanBytes(int64_t rows, int64_t slots) {
  const int64_t order = (rows + 3) / 4 * 16;
  return sizeof(PlanHeader) + order + sizeof(Segment) * (MostSegments(rows, slots) + MostTiles(rows));
}
inline Plan PlanAt(void *memory, int64_t rows, int64_t slots) {
  char *at = static_cast<char *>(memory);
  Plan plan;
  plan.header = reinterpret_cast<PlanHeader *>(at);
  plan.order = reinterpret_cast<int *>(at + sizeof(PlanHeader));
  plan.segments = reinterpret_cast<Segment *>(at + sizeof(PlanHeader) + (rows + 3) / 4 * 16);
  plan.tiles = plan.segments + MostSegments(rows, slots);
  return plan;
}

template <typename T>
struct LoraPairArguments {
  const T *a;
  const T *b;
  const int *rank;
  int out;
  int column;
};

template <typename T>
struct LoraArguments {
  Plan plan;
  T *y;
  const T *x;
  const float *scale;
  // [splits, rows, width] scale · A x, rows in the plan's order, in the columns of all pairs' ranks one after the other. The
  // prefill kernels cut `in` into splits so that there are enough blocks; decoding writes and reads the first only.
  float *hidden;
  int rows, in, columns, slots, max_rank;
  int pairs;
  // Most columns of `hidden` that an adapter can have: pairs · max_rank.
  int width;
  int splits;
  // Values of x in a split, a multiple of the prefill kernels' step.
  int split_in;
  LoraPairArguments<T> pair[QUIVER_LORA_MAX_PAIRS];

  __device__ __forceinline__ int rank_of(int at, int slot) const {
    const int rank = __ldg(pair[at].rank + slot);
    return rank < 0 || rank > max_rank ? 0 : rank;
  }
  // Columns of `hidden` that an adapter has.
  __device__ __forceinline__ int width_of(int slot) const {
    int sum = 0;
    for (int at = 0; at < pairs; at++) sum += rank_of(at, slot);
    return sum;
  }
  // The row of A that makes a column of `hidden`, which must be below width_of(slot).
  __device__ __forceinline__ const T *row_of_a(int slot, int column) const {
    int at = 0;
    for (int rank = rank_of(0, slot); column >= rank; rank = rank_of(at, slot)) {
      column -= rank;
      at++;
    }
    return pair[at].a + (static_cast<int64_t>(slot) * max_rank + column) * in;
  }
};

// 16 bytes of A, B or x, which no kernel writes while another reads them.
template <typename T>
__device__ __forceinline__ uint4 load_vector(const T *from) {
  return __ldg(reinterpret_cast<const uint4 *>(from));
}

template <typename T, int count, typename Vector>
__device__ __forceinline__ void to_floats(float (&values)[count], const Vector &vector) {
  T halves[count];
  static_assert(sizeof halves == sizeof vector, "as many values as the vector holds");
  memcpy(halves, &vector, sizeof halves);
#pragma unroll
  for (int at = 0; at < count; at++) values[at] = to_float(halves[at]);
}

// y[0 … 7] += values, rounded once.
template <typename T>
__device__ __forceinline__ void add_to(T *y, const float (&values)[kVector]) {
  uint4 vector = *reinterpret_cast<const uint4 *>(y);
  T halves[kVector];
  memcpy(halves, &vector, sizeof halves);
#pragma unroll
  for (int at = 0; at < kVector; at++) halves[at] = from_float<T>(to_float(halves[at]) + values[at]);
  memcpy(&vector, halves, sizeof halves);
  *reinterpret_cast<uint4 *>(y) = vector;
}

}  // namespace quiver
