// The kernels, written once for all instruction sets. An instruction set `I` is a struct of vector operations
// (avx512.cc, avx2.cc, neon.cc, scalar.cc), each file compiled with its own flags. Everything here is a template over I, and
// nothing of the standard library is called: a function that two files share would be compiled for the newest processor
// and linked into the paths of the oldest.
//
// Few rows (decode) are bound by memory: weights go from memory into registers, are widened there and used for all rows.
// Many rows (prefill) are bound by arithmetic: a panel of weights is widened into a buffer that stays in the first or second
// level cache, and tiles of rows × ranks (shrink) or rows × columns (expand) are held in registers while it is walked through.
//
// All sums are in float. Against a reference in double the result differs by at most 1e-5 · Σ|terms| (float rounding of sums up
// to some thousand terms), whatever the type of the weights: widening is exact.
#pragma once

#include "kernels.h"

namespace quiver::host {

struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

// Ranks of B that are added to y in one pass over few rows: as many streams are read at once.
constexpr int kRankBlock = 8;
// The panel of A that is widened at once for many rows: 64 KB. Its rows lie one cache line further apart than they are long:
// at a distance of 4096 bytes they would all want the same few places of the first cache.
constexpr int kPanelRanks = 16;
constexpr int64_t kPanelFeatures = 1008;
constexpr int64_t kPanelGap = 16;
// A cache line of 64 bytes.
constexpr int64_t kLineFloats = 16;

#define QUIVER_UNROLL _Pragma("GCC unroll 8")

template <class T>
constexpr T Least(T left, T right) {
  return left < right ? left : right;
}

// Asks for a cache line that will be read soon. An address beyond the end is harmless: nothing is loaded into a register.
inline void Prefetch(const void *address) { __builtin_prefetch(address); }

// Widens n elements.
template <class I, class W>
void Widen(const W *from, float *to, int64_t n) {
  int64_t i = 0;
  for (; i + I::kWidth <= n; i += I::kWidth) I::Store(to + i, I::Load(from + i));
  if (i < n) I::StorePart(to + i, I::LoadPart(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// sums[r][c] = Σ_k x[r][k] · a[c · stride + k], R × N dot products at once.
template <class I, class W, int R, int N>
void DotTile(const float *const *x, const W *a, int64_t stride, int64_t n, float *sums) {
  using V = typename I::V;
  // A small tile has too few sums to hide the latency of an addition: it gets several of each.
  constexpr int U = R * N >= 8 ? 1 : (R * N >= 4 ? 2 : 4);
  V acc[U][R][N];
  QUIVER_UNROLL for (int u = 0; u < U; u += 1)
    QUIVER_UNROLL for (int r = 0; r < R; r += 1)
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) acc[u][r][c] = I::Zero();
  int64_t k = 0;
  for (; k + U * I::kWidth <= n; k += U * I::kWidth) {
    if constexpr (sizeof(W) < sizeof(float)) {
      // Weights from memory: what the next ranks need of the same features.
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) Prefetch(a + (N + c) * stride + k);
    }
    QUIVER_UNROLL for (int u = 0; u < U; u += 1) {
      const int64_t at = k + u * I::kWidth;
      V weights[N];
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) weights[c] = I::Load(a + c * stride + at);
      QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
        const V values = I::Load(x[r] + at);
        QUIVER_UNROLL for (int c = 0; c < N; c += 1) acc[u][r][c] = I::Fma(values, weights[c], acc[u][r][c]);
      }
    }
  }
  for (; k < n; k += I::kWidth) {
    const int left = static_cast<int>(Least<int64_t>(n - k, I::kWidth));
    V weights[N];
    QUIVER_UNROLL for (int c = 0; c < N; c += 1) weights[c] = I::LoadPart(a + c * stride + k, left);
    QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
      const V values = I::LoadPart(x[r] + k, left);
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) acc[0][r][c] = I::Fma(values, weights[c], acc[0][r][c]);
    }
  }
  QUIVER_UNROLL for (int u = 1; u < U; u += 1)
    QUIVER_UNROLL for (int r = 0; r < R; r += 1)
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) acc[0][r][c] = I::Add(acc[0][r][c], acc[u][r][c]);
  QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
    if constexpr (N == 4) {
      I::Sum4(acc[0][r][0], acc[0][r][1], acc[0][r][2], acc[0][r][3], sums + 4 * r);
    } else {
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) sums[N * r + c] = I::Sum(acc[0][r][c]);
    }
  }
}

// One tile of ShrinkTask: R rows × N ranks over n features, put into or added to h.
template <class I, class W, int R, int N>
void ShrinkTile(const float *const *x, const W *a, int64_t stride, int64_t n, float scale, bool is_first, float *h, int h_stride) {
  float sums[R * N];
  DotTile<I, W, R, N>(x, a, stride, n, sums);
  for (int r = 0; r < R; r += 1) {
    for (int c = 0; c < N; c += 1) {
      float *to = h + r * h_stride + c;
      *to = is_first ? scale * sums[r * N + c] : *to + scale * sums[r * N + c];
    }
  }
}

// The same for a number of rows that is known only now.
template <class I, class W, int N, int R>
void ShrinkTileOf(int rows, const float *const *x, const W *a, int64_t stride, int64_t n, float scale, bool is_first, float *h,
                  int h_stride) {
  if constexpr (R > 1) {
    if (rows < R) {
      ShrinkTileOf<I, W, N, R - 1>(rows, x, a, stride, n, scale, is_first, h, h_stride);
      return;
    }
  }
  ShrinkTile<I, W, R, N>(x, a, stride, n, scale, is_first, h, h_stride);
}

// `ranks` ranks of all rows of a task over n features from `feature` on; the rows in tiles of at most R, evenly cut.
template <class I, class W, int R>
void ShrinkRanks(const ShrinkTask &task, const W *a, int64_t stride, int first_rank, int ranks, int64_t feature, int64_t n) {
  const int tiles = (task.count + R - 1) / R;
  for (int tile = 0; tile < tiles; tile += 1) {
    const int row = task.count * tile / tiles;
    const int rows = task.count * (tile + 1) / tiles - row;
    const float *x[R] = {};
    for (int r = 0; r < rows; r += 1) x[r] = task.x + task.rows[row + r] * task.in + feature;
    float *h = task.h + row * task.h_stride + first_rank;
    int rank = 0;
    for (; rank + 4 <= ranks; rank += 4) {
      ShrinkTileOf<I, W, 4, R>(rows, x, a + rank * stride, stride, n, task.scale, feature == 0, h + rank, task.h_stride);
    }
    for (; rank < ranks; rank += 1) {
      ShrinkTileOf<I, W, 1, R>(rows, x, a + rank * stride, stride, n, task.scale, feature == 0, h + rank, task.h_stride);
    }
  }
}

template <class I, class W>
void Shrink(const ShrinkTask &task) {
  const W *a = static_cast<const W *>(task.a);
  if (task.count < kManyRows) {
    // Four ranks at a time for all rows: what was read from memory for the first rows is in the cache for the others.
    for (int rank = 0; rank < task.ranks; rank += 4) {
      ShrinkRanks<I, W, I::kDotRowsWidened>(task, a + rank * task.in, task.in, rank, Least(4, task.ranks - rank), 0, task.in);
    }
    return;
  }
  alignas(64) float panel[kPanelRanks * (kPanelFeatures + kPanelGap)];
  for (int rank = 0; rank < task.ranks; rank += kPanelRanks) {
    const int ranks = Least(kPanelRanks, task.ranks - rank);
    for (int64_t feature = 0; feature < task.in; feature += kPanelFeatures) {
      const int64_t n = Least(kPanelFeatures, task.in - feature);
      // As close as can be, so that a narrow panel lies in the first cache whole.
      const int64_t stride = (n + kPanelGap - 1) / kPanelGap * kPanelGap + kPanelGap;
      for (int r = 0; r < ranks; r += 1) Widen<I>(a + (rank + r) * task.in + feature, panel + r * stride, n);
      ShrinkRanks<I, float, I::kDotRows>(task, panel, stride, rank, ranks, feature, n);
    }
  }
}

// y[r][c] += Σ_k h[r · h_stride + k] · b[k · stride + c], R rows × N vectors of columns held in registers.
template <class I, class W, int R, int N>
void OuterTile(float *const *y, const W *b, int64_t stride, const float *h, int h_stride, int ranks) {
  using V = typename I::V;
  V acc[R][N];
  QUIVER_UNROLL for (int r = 0; r < R; r += 1)
    QUIVER_UNROLL for (int c = 0; c < N; c += 1) acc[r][c] = I::Load(y[r] + c * I::kWidth);
  for (int k = 0; k < ranks; k += 1) {
    V weights[N];
    QUIVER_UNROLL for (int c = 0; c < N; c += 1) weights[c] = I::Load(b + k * stride + c * I::kWidth);
    QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
      const V factor = I::Set(h[r * h_stride + k]);
      QUIVER_UNROLL for (int c = 0; c < N; c += 1) acc[r][c] = I::Fma(factor, weights[c], acc[r][c]);
    }
  }
  QUIVER_UNROLL for (int r = 0; r < R; r += 1)
    QUIVER_UNROLL for (int c = 0; c < N; c += 1) I::Store(y[r] + c * I::kWidth, acc[r][c]);
}

// The same for fewer columns than a tile has: vector by vector, the last one in part.
template <class I, class W>
void OuterEdge(float *y, const W *b, int64_t stride, const float *h, int ranks, int64_t columns) {
  for (int64_t c = 0; c < columns; c += I::kWidth) {
    const int n = static_cast<int>(Least<int64_t>(columns - c, I::kWidth));
    typename I::V acc = I::LoadPart(y + c, n);
    for (int k = 0; k < ranks; k += 1) acc = I::Fma(I::Set(h[k]), I::LoadPart(b + k * stride + c, n), acc);
    I::StorePart(y + c, acc, n);
  }
}

template <class I, class W, int R>
void OuterTileOf(int rows, float *const *y, const W *b, int64_t stride, const float *h, int h_stride, int ranks) {
  if constexpr (R > 1) {
    if (rows < R) {
      OuterTileOf<I, W, R - 1>(rows, y, b, stride, h, h_stride, ranks);
      return;
    }
  }
  OuterTile<I, W, R, I::kOutVectors>(y, b, stride, h, h_stride, ranks);
}

// `ranks` ranks of all rows of a task, from `first_rank` on, at `columns` columns from `column` on: a tile's or fewer.
template <class I, class W, int R>
void ExpandColumns(const ExpandTask &task, const W *b, int64_t stride, int first_rank, int ranks, int64_t column, int64_t columns) {
  const int tiles = (task.count + R - 1) / R;
  for (int tile = 0; tile < tiles; tile += 1) {
    const int row = task.count * tile / tiles;
    const int rows = task.count * (tile + 1) / tiles - row;
    const float *h = task.h + row * task.h_stride + first_rank;
    float *y[R] = {};
    for (int r = 0; r < rows; r += 1) y[r] = task.y + task.rows[row + r] * task.y_stride + column;
    if (columns == I::kOutVectors * I::kWidth) {
      // Rows of y lie far apart, so that the processor does not guess which columns come next.
      for (int r = 0; r < rows; r += 1) {
        for (int64_t c = 0; c < columns; c += kLineFloats) Prefetch(y[r] + columns + c);
      }
      OuterTileOf<I, W, R>(rows, y, b, stride, h, task.h_stride, ranks);
    } else {
      for (int r = 0; r < rows; r += 1) OuterEdge<I, W>(y[r], b, stride, h + r * task.h_stride, ranks, columns);
    }
  }
}

template <class I, class W>
void Expand(const ExpandTask &task) {
  constexpr int64_t kStep = I::kOutVectors * I::kWidth;
  const W *b = static_cast<const W *>(task.b);
  if (task.count < kManyRows) {
    for (int rank = 0; rank < task.ranks; rank += kRankBlock) {
      const int ranks = Least(kRankBlock, task.ranks - rank);
      for (int64_t column = task.begin; column < task.end; column += kStep) {
        ExpandColumns<I, W, I::kOutRowsWidened>(task, b + rank * task.out + column, task.out, rank, ranks, column,
                                                Least(kStep, task.end - column));
      }
    }
    return;
  }
  alignas(64) float panel[kMostRanks * kStep];
  for (int64_t column = task.begin; column < task.end; column += kStep) {
    const int64_t columns = Least(kStep, task.end - column);
    for (int rank = 0; rank < task.ranks; rank += 1) Widen<I>(b + rank * task.out + column, panel + rank * kStep, columns);
    ExpandColumns<I, float, I::kOutRows>(task, panel, kStep, 0, task.ranks, column, columns);
  }
}

}  // namespace quiver::host
