// One call of quiver::Product8 after everything about it has been checked.
//
//   y[t, o] = Σ_i x[t, i] · W[o, i]
//
// Weights are 8-bit integers in blocks of 32 along `in`, each block with a scale. They lie as every instruction set can take them: in
// panels of 16 outputs, a panel in units of 64 inputs, a unit being
//
//   [16 groups of 4 inputs][16 outputs][4 inputs] int8, −127 … 127         1,024 bytes
//   [2 blocks of 32 inputs][16 outputs] scales, bfloat16                      64 bytes
//
// so that 64 bytes are what one output tile needs of 4 neighbouring inputs, and everything is read from front to back. What lies past
// `in` or `out` is 0 with the scale 0.
#pragma once

#include <cstdint>

namespace quiver {

constexpr int64_t kPanelOutputs = 16;
constexpr int64_t kBlockInputs = 32;
constexpr int64_t kUnitInputs = 64;
constexpr int64_t kUnitBytes = kUnitInputs * kPanelOutputs + (kUnitInputs / kBlockInputs) * kPanelOutputs * 2;

struct ProductCall {
  int64_t rows = 0;
  int64_t in = 0;
  int64_t out = 0;
  const float *x = nullptr;          // [rows, in]
  const uint8_t *weights = nullptr;  // [⌈out / 16⌉, ⌈in / 64⌉, kUnitBytes]
  float *y = nullptr;                // [rows, out]
};

constexpr int64_t PanelCount(int64_t out) { return (out + kPanelOutputs - 1) / kPanelOutputs; }
constexpr int64_t UnitCount(int64_t in) { return (in + kUnitInputs - 1) / kUnitInputs; }

}  // namespace quiver
