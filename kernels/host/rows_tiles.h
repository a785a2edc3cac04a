// The kernels of rows.h, written once for all instruction sets as those of tiles.h are. A row's result depends on nothing but the row:
// sums have one order whatever the width of a vector.
#pragma once

#include "exp2.h"
#include "rows.h"
#include "tiles.h"

namespace quiver::host {

// Sums of squares are kept in this many parts, value i in part i % kSquareParts.
constexpr int kSquareParts = 16;

template <class I>
float SumOfParts(float *parts) {
  for (int half = kSquareParts / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i += 1) parts[i] += parts[i + half];
  }
  return parts[0];
}

template <class I>
void NormRow(const float *residual, const float *added, const float *weight, int64_t n, float epsilon, float *normed, float *sum) {
  using V = typename I::V;
  constexpr int kVectors = kSquareParts / I::kWidth;
  V squares[kVectors];
  QUIVER_UNROLL for (int v = 0; v < kVectors; v += 1) squares[v] = I::Zero();
  const int64_t whole = n / kSquareParts * kSquareParts;
  for (int64_t i = 0; i < whole; i += kSquareParts) {
    QUIVER_UNROLL for (int v = 0; v < kVectors; v += 1) {
      const int64_t at = i + v * I::kWidth;
      const V value = I::Add(I::Load(residual + at), I::Load(added + at));
      I::Store(sum + at, value);
      squares[v] = I::Fma(value, value, squares[v]);
    }
  }
  for (int v = 0; v < kVectors && whole + v * I::kWidth < n; v += 1) {
    const int64_t at = whole + v * I::kWidth;
    const int left = static_cast<int>(Least<int64_t>(n - at, I::kWidth));
    const V value = I::Add(I::LoadPart(residual + at, left), I::LoadPart(added + at, left));
    I::StorePart(sum + at, value, left);
    squares[v] = I::Fma(value, value, squares[v]);
  }
  float parts[kSquareParts];
  for (int v = 0; v < kVectors; v += 1) I::Store(parts + v * I::kWidth, squares[v]);
  const float mean = SumOfParts<I>(parts) / static_cast<float>(n);
  const V factor = I::Set(1 / __builtin_sqrtf(mean + epsilon));
  int64_t i = 0;
  for (; i + I::kWidth <= n; i += I::kWidth) I::Store(normed + i, I::Mul(I::Mul(I::Load(sum + i), factor), I::Load(weight + i)));
  if (i == n) return;
  const int left = static_cast<int>(n - i);
  I::StorePart(normed + i, I::Mul(I::Mul(I::LoadPart(sum + i, left), factor), I::LoadPart(weight + i, left)), left);
}

template <class I>
void Norm(const NormCall &call, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; row += 1) {
    const int64_t at = row * call.features;
    NormRow<I>(call.residual + at, call.added + at, call.weight, call.features, call.epsilon, call.normed + at, call.sum + at);
  }
}

// silu(g) · up. The power is of −|g|, which cannot overflow: silu(g) is g / (1 + e^−g), and g · e^g / (1 + e^g) below 0.
template <class I>
typename I::V Gated(typename I::V g, typename I::V up) {
  using V = typename I::V;
  const V one = I::Set(1);
  const V magnitude = I::Max(g, I::Sub(I::Zero(), g));
  const V power = Exp2<I>(I::Mul(magnitude, I::Set(-1.44269504f)));
  const V above = I::Add(I::ZeroBelow(I::Sub(one, power), g, I::Zero()), power);
  return I::Mul(I::Div(I::Mul(g, above), I::Add(one, power)), up);
}

template <class I>
void Gate(const GateCall &call, int64_t begin, int64_t end) {
  const int64_t n = call.features;
  for (int64_t row = begin; row < end; row += 1) {
    const float *gate = call.x + row * 2 * n, *up = gate + n;
    float *y = call.y + row * n;
    int64_t i = 0;
    for (; i + I::kWidth <= n; i += I::kWidth) I::Store(y + i, Gated<I>(I::Load(gate + i), I::Load(up + i)));
    if (i == n) continue;
    const int left = static_cast<int>(n - i);
    I::StorePart(y + i, Gated<I>(I::LoadPart(gate + i, left), I::LoadPart(up + i, left)), left);
  }
}

}  // namespace quiver::host
