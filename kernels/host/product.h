// y[t, o] = Σ_b sx[t, b] · sw[o, b] · Σ_{k < 32} qx[t, 32 b + k] · qw[o, 32 b + k]
//
// Products of rows with a matrix of 8-bit weights, as one instruction set computes them. Weights and rows are cut along `in` into
// blocks of 32, each with a scale of its own, and made integers of −127 … 127 (packages/worker/src/engine/onnx/packed-product.ts
// does the weights, `quantize` the rows). The inner sum is exact; blocks are added up in float32, in their order, with one rounding
// for sum · sx and one for adding its product with sw. So a row's result depends neither on its company, nor on how the work was
// spread, nor on the instruction set.
#pragma once

#include <cstdint>

#include "../operator/product_call.h"

namespace quiver::host {

// Rows that are laid out, and on a CPU with matrix tiles computed, together.
constexpr int kTileRows = 16;

// Rows as integers. A tile has kTileRows rows, the last one as many as there are, rounded up to kRowUnit where they are more: its height.
//   values [tiles][blocks][height][32]     scales [tiles][blocks][height]     sums [tiles][blocks][height] −128 · Σ values
// A block that holds a NaN or an infinity has the scale NaN; one of zeros the scale 0.
struct QuantizedRows {
  int8_t *values;
  float *scales;
  int32_t *sums;
  int64_t rows;
  int64_t blocks;
};

constexpr int kRowUnit = 4;
constexpr int64_t TileHeight(int64_t rows_left) {
  if (rows_left >= kTileRows) return kTileRows;
  return rows_left <= kRowUnit ? rows_left : (rows_left + kRowUnit - 1) / kRowUnit * kRowUnit;
}

// Some panels of the weights times all rows.
struct ProductTask {
  const uint8_t *weights;  // [panels][units][kUnitBytes]
  int64_t units;
  int64_t begin;           // panels
  int64_t end;
  QuantizedRows rows;
  float *y;                // [rows, out]
  int64_t out;
};

struct ProductKernels {
  const char *name;
  // Rows [begin, end) of x [*, in] into `to`; begin is a multiple of kTileRows.
  void (*quantize)(const float *x, int64_t in, int64_t begin, int64_t end, const QuantizedRows &to);
  // Reads every weight of the panels once from memory; rows come from the caches again for each panel.
  void (*multiply)(const ProductTask &);
};

// nullptr where the library was built for another architecture.
const ProductKernels *AmxProduct();
const ProductKernels *Avx512VnniProduct();
const ProductKernels *AvxVnniProduct();
const ProductKernels *Avx2Product();
const ProductKernels *NeonDotProduct();
const ProductKernels *NeonProduct();
const ProductKernels *ScalarProduct();

// As ChooseKernels (cpu_features.h): the newest instruction set, or the one of that name ("amx", "avx512vnni", "avxvnni", "avx2",
// "neondot", "neon", "scalar").
const ProductKernels *ChooseProduct(const char *wanted);

}  // namespace quiver::host
