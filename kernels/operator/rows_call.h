// Checked calls of the operators that take each row by itself. All matrices are dense, row after row, in float32.
#pragma once

#include <cstdint>

namespace quiver {

//   sum[t, i] = residual[t, i] + added[t, i]        normed[t, i] = sum[t, i] / √(mean_i(sum[t, i]²) + epsilon) · weight[i]
struct NormCall {
  int64_t rows = 0;
  int64_t features = 0;
  float epsilon = 0;
  const float *residual = nullptr;
  const float *added = nullptr;
  const float *weight = nullptr;
  float *normed = nullptr;
  float *sum = nullptr;
};

//   y[t, i] = silu(x[t, i]) · x[t, features + i]        silu(g) = g / (1 + e^−g)        x [rows, 2 · features]
struct GateCall {
  int64_t rows = 0;
  int64_t features = 0;
  const float *x = nullptr;
  float *y = nullptr;
};

}  // namespace quiver
