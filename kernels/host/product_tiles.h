// The kernels of product.h for any instruction set whose traits are given, on vectors of outputs.
//
// Traits:
//   I, F               as many 32-bit integers or floats as there are outputs in a vector, kOutputs; 16 is a multiple of it
//   kRows              rows whose sums fit into the registers
//   kBiased            whether Dot takes weights as unsigned, 128 larger, so that sums start at −128 · Σ values
//   Start(sum)         sums to start from; a zero where not kBiased
//   Weights, Load      the weights of 4 inputs × kOutputs outputs, as Dot wants them
//   Dot(sum, w, four)  sum[o] + Σ_j w[o][j] · four[j]
//   Zero, Scales(bf16), Accumulate(sums, row_scale, scales, total): total + (sums · row_scale) · scales
//   Store(to, F, count), Prefetch(address)
#pragma once

#include "product.h"

namespace quiver::host {
namespace {

constexpr int kGroupBytes = 4 * static_cast<int>(kPanelOutputs);
constexpr int kGroups = static_cast<int>(kBlockInputs) / 4;

// One panel of weights and up to 16 rows of one tile.
struct PanelTask {
  const uint8_t *weights;
  int64_t units;
  // Of the first row; the next block of the same row is `height` rows further on.
  const int8_t *values;
  const float *scales;
  const int32_t *sums;
  int64_t height;
  float *y;
  int64_t y_stride;
  int columns;
  // Whether these are the first rows that the panel meets: its weights come from memory, not from a cache.
  bool is_first;
};

template <class T, int kRowCount>
inline void MultiplyRows(const PanelTask &task) {
  constexpr int kVectors = static_cast<int>(kPanelOutputs) / T::kOutputs;
  typename T::F total[kVectors][kRowCount];
  for (int v = 0; v < kVectors; v += 1)
    for (int r = 0; r < kRowCount; r += 1) total[v][r] = T::Zero();
  const uint8_t *weights = task.weights;
  const int8_t *values = task.values;
  const float *scales = task.scales;
  const int32_t *starts = task.sums;
  for (int64_t unit = 0; unit < task.units; unit += 1) {
    for (int block = 0; block < 2; block += 1) {
      const uint8_t *block_weights = weights + block * kGroups * kGroupBytes;
      const uint8_t *block_scales = weights + 2 * kGroups * kGroupBytes + block * kPanelOutputs * 2;
      for (int v = 0; v < kVectors; v += 1) {
        typename T::I sums[kRowCount];
        for (int r = 0; r < kRowCount; r += 1) sums[r] = T::Start(starts + r);
        const uint8_t *from = block_weights + v * T::kOutputs * 4;
#pragma GCC unroll 8
        for (int group = 0; group < kGroups; group += 1) {
          if (v == 0) T::Prefetch(from + group * kGroupBytes);
          const typename T::Weights w = T::Load(from + group * kGroupBytes);
#pragma GCC unroll 8
          for (int r = 0; r < kRowCount; r += 1) sums[r] = T::Dot(sums[r], w, values + r * kBlockInputs + group * 4);
        }
        const typename T::F of_outputs = T::Scales(block_scales + v * T::kOutputs * 2);
        for (int r = 0; r < kRowCount; r += 1) total[v][r] = T::Accumulate(sums[r], scales + r, of_outputs, total[v][r]);
      }
      values += task.height * kBlockInputs;
      scales += task.height;
      starts += task.height;
    }
    weights += kUnitBytes;
  }
  for (int v = 0; v < kVectors; v += 1) {
    const int left = task.columns - v * T::kOutputs;
    if (left <= 0) break;
    for (int r = 0; r < kRowCount; r += 1) T::Store(task.y + r * task.y_stride + v * T::kOutputs, total[v][r], left);
  }
}

template <class T, int kRowCount>
inline void MultiplyUpTo(const PanelTask &task, int rows) {
  if (rows == kRowCount) return MultiplyRows<T, kRowCount>(task);
  if constexpr (kRowCount > 1) MultiplyUpTo<T, kRowCount - 1>(task, rows);
}

// `rows` rows of a tile, T::kRows at a time.
template <class T>
inline void MultiplyPanel(PanelTask task, int64_t rows) {
  while (rows > 0) {
    const int now = static_cast<int>(rows < T::kRows ? rows : T::kRows);
    MultiplyUpTo<T, T::kRows>(task, now);
    task.values += now * kBlockInputs;
    task.scales += now;
    task.sums += now;
    task.y += now * task.y_stride;
    rows -= now;
  }
}

// Calls `body(panel task, rows)` for every panel and, within it, every tile of rows: a panel stays in the first cache meanwhile.
template <class Body>
inline void ForEachPanel(const ProductTask &task, const Body &body) {
  const QuantizedRows &rows = task.rows;
  for (int64_t panel = task.begin; panel < task.end; panel += 1) {
    const int64_t left = task.out - panel * kPanelOutputs;
    for (int64_t row = 0; row < rows.rows; row += kTileRows) {
      const int64_t count = rows.rows - row < kTileRows ? rows.rows - row : kTileRows;
      const int64_t at = row * rows.blocks;
      body(PanelTask{task.weights + panel * task.units * kUnitBytes, task.units, rows.values + at * kBlockInputs, rows.scales + at,
                     rows.sums + at, TileHeight(rows.rows - row), task.y + row * task.out + panel * kPanelOutputs, task.out,
                     static_cast<int>(left < kPanelOutputs ? left : kPanelOutputs), row == 0},
           count);
    }
  }
}

template <class T>
void Multiply(const ProductTask &task) {
  ForEachPanel(task, [](const PanelTask &panel, int64_t rows) { MultiplyPanel<T>(panel, rows); });
}

// Below this the inverse of a scale is no float any more.
constexpr float kLeastMagnitude = 1e-30f;
constexpr uint32_t kInfinityBits = 0x7f800000;

inline float FromBits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// What a block's largest magnitude makes of it. Magnitudes are compared as integers, by which NaN is larger than infinity.
struct BlockScale {
  float scale;
  float inverse;
};
inline BlockScale ScaleOf(uint32_t magnitude_bits) {
  if (magnitude_bits >= kInfinityBits) return {FromBits(0x7fc00000), 0};
  const float magnitude = FromBits(magnitude_bits);
  if (magnitude < kLeastMagnitude) return {0, 0};
  return {magnitude / 127, 127 / magnitude};
}

// T::Magnitude(x) → bits of the largest magnitude of 32 floats; T::Round(x, inverse, to) → −128 · their sum.
template <class T>
void Quantize(const float *x, int64_t in, int64_t begin, int64_t end, const QuantizedRows &to) {
  for (int64_t row = begin; row < end; row += 1) {
    const int64_t tile = row / kTileRows * kTileRows;
    const int64_t height = TileHeight(to.rows - tile);
    int64_t at = tile * to.blocks + row - tile;
    for (int64_t block = 0; block < to.blocks; block += 1, at += height) {
      const float *from = x + row * in + block * kBlockInputs;
      float part[kBlockInputs];
      const int64_t left = in - block * kBlockInputs;
      if (left < kBlockInputs) {
        for (int64_t i = 0; i < kBlockInputs; i += 1) part[i] = i < left ? from[i] : 0;
        from = part;
      }
      const uint32_t magnitude = T::Magnitude(from);
      const BlockScale block_scale = ScaleOf(magnitude);
      to.scales[at] = block_scale.scale;
      int8_t *values = to.values + at * kBlockInputs;
      if (block_scale.inverse == 0) {
        __builtin_memset(values, 0, kBlockInputs);
        to.sums[at] = 0;
      } else {
        to.sums[at] = T::Round(from, block_scale.inverse, values);
      }
    }
  }
}

}  // namespace
}  // namespace quiver::host
