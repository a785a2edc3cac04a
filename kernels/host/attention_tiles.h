// Attention's kernels, written once for all instruction sets as those of tiles.h are.
//
// A tile's queries go through a block of keys in threes to sixes of registers: scores of up to 4 vectors of keys at once, each
// loaded value of a key used for all queries; then weights; then values, a vector of dimensions used for all queries again. One
// query alone reads each key and value once from memory; a tile of many reads them from the first cache.
#pragma once

#include "attention.h"
#include "exp2.h"
#include "tiles.h"

namespace quiver::host {

constexpr float kNoScore = -__builtin_inff();

template <class I>
float Exp2Of(float x) {
  float lanes[I::kWidth];
  I::Store(lanes, Exp2<I>(I::Set(x)));
  return lanes[0];
}

// Scores of R queries with the keys from … to (multiples of kKeyGroup, counted from `keys`), C vectors of keys at once.
template <class I, class W, int R, int C>
void ScoreTile(const float *const *queries, const W *keys, int64_t dim, int from, float *scores) {
  using V = typename I::V;
  const W *lanes[C];
  QUIVER_UNROLL for (int c = 0; c < C; c += 1) {
    const int key = from + c * I::kWidth;
    lanes[c] = keys + key / kKeyGroup * kKeyGroup * dim + key % kKeyGroup;
  }
  V sums[R][C];
  QUIVER_UNROLL for (int r = 0; r < R; r += 1)
    QUIVER_UNROLL for (int c = 0; c < C; c += 1) sums[r][c] = I::Zero();
  for (int64_t d = 0; d < dim; d += 1) {
    V values[C];
    QUIVER_UNROLL for (int c = 0; c < C; c += 1) values[c] = I::Load(lanes[c] + d * kKeyGroup);
    QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
      const V query = I::Set(queries[r][d]);
      QUIVER_UNROLL for (int c = 0; c < C; c += 1) sums[r][c] = I::Fma(query, values[c], sums[r][c]);
    }
  }
  QUIVER_UNROLL for (int r = 0; r < R; r += 1)
    QUIVER_UNROLL for (int c = 0; c < C; c += 1) I::Store(scores + r * kBlockKeys + from + c * I::kWidth, sums[r][c]);
}

// Turns the scores from … to of one query into weights relative to the largest of those it sees, begin … end; 0 for the others.
template <class I>
__attribute__((noinline)) void Weigh(float *scores, int from, int to, int begin, int end, float *most, float *sum) {
  using V = typename I::V;
  for (int key = from; key < begin; key += 1) scores[key] = kNoScore;
  for (int key = end; key < to; key += 1) scores[key] = kNoScore;
  V top = I::Load(scores + from);
  for (int key = from + I::kWidth; key < to; key += I::kWidth) top = I::Max(top, I::Load(scores + key));
  float lanes[I::kWidth];
  I::Store(lanes, top);
  float largest = lanes[0];
  for (int i = 1; i < I::kWidth; i += 1) largest = lanes[i] > largest ? lanes[i] : largest;
  const V reference = I::Set(largest);
  V total = I::Zero();
  for (int key = from; key < to; key += I::kWidth) {
    const V weight = Exp2<I>(I::Sub(I::Load(scores + key), reference));
    I::Store(scores + key, weight);
    total = I::Add(total, weight);
  }
  *most = largest;
  *sum = I::Sum(total);
}

// part[r][column …] = Σ_key weights[r][key] · values[key][column …], for C vectors of columns, of which the last may have fewer lanes.
template <class I, class W, int R, int C>
void MixTile(const float *weights, const W *values, int64_t dim, int begin, int end, int64_t column, float *parts,
             int64_t part_stride) {
  using V = typename I::V;
  V sums[R][C];
  QUIVER_UNROLL for (int r = 0; r < R; r += 1)
    QUIVER_UNROLL for (int c = 0; c < C; c += 1) sums[r][c] = I::Zero();
  const int last = static_cast<int>(Least<int64_t>(dim - column - (C - 1) * I::kWidth, I::kWidth));
  for (int key = begin; key < end; key += 1) {
    const W *from = values + key * dim + column;
    V loaded[C];
    QUIVER_UNROLL for (int c = 0; c < C - 1; c += 1) loaded[c] = I::Load(from + c * I::kWidth);
    loaded[C - 1] = C > 1 || last == I::kWidth ? I::Load(from + (C - 1) * I::kWidth) : I::LoadPart(from, last);
    QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
      const V weight = I::Set(weights[r * kBlockKeys + key]);
      QUIVER_UNROLL for (int c = 0; c < C; c += 1) sums[r][c] = I::Fma(weight, loaded[c], sums[r][c]);
    }
  }
  QUIVER_UNROLL for (int r = 0; r < R; r += 1) {
    float *to = parts + r * part_stride + column;
    QUIVER_UNROLL for (int c = 0; c < C; c += 1) {
      if (C > 1 || last == I::kWidth) I::Store(to + c * I::kWidth, sums[r][c]);
      else I::StorePart(to, sums[r][c], last);
    }
  }
}

// Adds a part to a query's total, both as in PartFloats.
template <class I>
__attribute__((noinline)) void AddPart(const float *part, int64_t dim, float *total) {
  if (part[1] == 0) return;
  if (total[1] == 0) {
    for (int64_t i = 0; i < PartFloats(dim); i += 1) total[i] = part[i];
    return;
  }
  const float most = part[0] > total[0] ? part[0] : total[0];
  const float of_total = Exp2Of<I>(total[0] - most), of_part = Exp2Of<I>(part[0] - most);
  total[0] = most;
  total[1] = total[1] * of_total + part[1] * of_part;
  const typename I::V left = I::Set(of_total), right = I::Set(of_part);
  float *to = total + kPartHeader;
  const float *from = part + kPartHeader;
  int64_t i = 0;
  for (; i + I::kWidth <= dim; i += I::kWidth) I::Store(to + i, I::Fma(I::Load(from + i), right, I::Mul(I::Load(to + i), left)));
  if (i == dim) return;
  const int n = static_cast<int>(dim - i);
  I::StorePart(to + i, I::Fma(I::LoadPart(from + i, n), right, I::Mul(I::LoadPart(to + i, n), left)), n);
}

template <class I>
__attribute__((noinline)) void PutOut(const float *total, int64_t dim, float *out) {
  const typename I::V factor = I::Set(1 / total[1]);
  int64_t i = 0;
  for (; i + I::kWidth <= dim; i += I::kWidth) I::Store(out + i, I::Mul(I::Load(total + kPartHeader + i), factor));
  if (i == dim) return;
  const int n = static_cast<int>(dim - i);
  I::StorePart(out + i, I::Mul(I::LoadPart(total + kPartHeader + i, n), factor), n);
}

// Where a query of row `position` begins and ends to see keys of a block, counted from the block's first.
struct Seen {
  int begin;
  int end;
};
inline Seen SeenOf(int64_t position, int64_t window, int64_t block) {
  const int64_t first = block * kBlockKeys;
  const int64_t begin = window > 0 ? position - window + 1 - first : 0;
  return {static_cast<int>(begin > 0 ? begin : 0), static_cast<int>(Least<int64_t>(kBlockKeys, position + 1 - first))};
}

// R queries of a tile, from `query` on, through one block. The rows are neighbours: what any sees begins where the first one's does.
template <class I, class W, int R>
void BlockRows(const AttendTask &task, int64_t block, int64_t query, const W *keys, const W *values, float *scores, float *parts,
               int64_t part_stride) {
  const float *queries[R];
  for (int r = 0; r < R; r += 1)
    queries[r] = task.queries + (query + r) / task.group * task.row_stride + (query + r) % task.group * task.dim;
  const int64_t first = task.position + query / task.group, last = task.position + (query + R - 1) / task.group;
  const int begin = SeenOf(first, task.window, block).begin, end = SeenOf(last, task.window, block).end;
  constexpr int kGroup = static_cast<int>(kKeyGroup);
  const int from = begin / kGroup * kGroup, to = (end + kGroup - 1) / kGroup * kGroup;
  constexpr int kUnit = I::kOutVectors * I::kWidth;
  int key = from;
  for (; key + kUnit <= to; key += kUnit) ScoreTile<I, W, R, I::kOutVectors>(queries, keys, task.dim, key, scores);
  for (; key < to; key += I::kWidth) ScoreTile<I, W, R, 1>(queries, keys, task.dim, key, scores);
  for (int r = 0; r < R; r += 1) {
    const Seen own = SeenOf(task.position + (query + r) / task.group, task.window, block);
    float *part = parts + r * part_stride;
    Weigh<I>(scores + r * kBlockKeys, from, to, own.begin, own.end, part, part + 1);
  }
  int64_t column = 0;
  for (; column + kUnit <= task.dim; column += kUnit)
    MixTile<I, W, R, I::kOutVectors>(scores, values, task.dim, begin, end, column, parts + kPartHeader, part_stride);
  for (; column < task.dim; column += I::kWidth)
    MixTile<I, W, R, 1>(scores, values, task.dim, begin, end, column, parts + kPartHeader, part_stride);
}

// The same for a number of queries that is known only now.
template <class I, class W, int R>
void BlockRowsOf(int rows, const AttendTask &task, int64_t block, int64_t query, const W *keys, const W *values, float *scores,
                 float *parts, int64_t part_stride) {
  if constexpr (R > 1) {
    if (rows < R) {
      BlockRowsOf<I, W, R - 1>(rows, task, block, query, keys, values, scores, parts, part_stride);
      return;
    }
  }
  BlockRows<I, W, R>(task, block, query, keys, values, scores, parts, part_stride);
}

struct AttendScratch {
  float *totals;
  float *parts;
  float *scores;
  float *keys;
  float *values;
};

// Queries `first` … `end` of a tile, which all see keys of the block.
template <class I, class W>
void BlockQueries(const AttendTask &task, int64_t block, int64_t first, int64_t end, const W *keys, const W *values,
                  const AttendScratch &scratch) {
  static_assert(I::kOutRows <= kMostRegisterRows, "the scratch has room for them");
  const int64_t stride = PartFloats(task.dim), tiles = (end - first + I::kOutRows - 1) / I::kOutRows;
  for (int64_t tile = 0; tile < tiles; tile += 1) {
    const int64_t query = first + (end - first) * tile / tiles;
    const int rows = static_cast<int>(first + (end - first) * (tile + 1) / tiles - query);
    float *parts = scratch.parts;
    if (task.parts != nullptr) parts = task.parts + ((block - task.first_block) * task.rows * task.group + query) * stride;
    BlockRowsOf<I, W, I::kOutRows>(rows, task, block, query, keys, values, scratch.scores, parts, stride);
    if (task.parts != nullptr) continue;
    for (int r = 0; r < rows; r += 1) AddPart<I>(parts + r * stride, task.dim, scratch.totals + (query + r) * stride);
  }
}

template <class I, class W>
void AttendBlock(const AttendTask &task, int64_t block, const AttendScratch &scratch) {
  // Rows before it do not see the block yet, rows after it no more.
  const int64_t start = block * kBlockKeys, end = start + kBlockKeys;
  const int64_t after = task.window > 0 ? end + task.window - 1 - task.position : task.rows;
  const int64_t first_row = start > task.position ? start - task.position : 0, end_row = Least(task.rows, after);
  const int64_t queries = task.rows * task.group, first = first_row * task.group, last = end_row * task.group;
  if (task.parts != nullptr) {
    float *parts = task.parts + (block - task.first_block) * queries * PartFloats(task.dim);
    for (int64_t query = 0; query < queries; query += 1) parts[query * PartFloats(task.dim) + 1] = 0;
  }
  if (first >= last) return;
  const W *keys = static_cast<const W *>(task.keys) + start * task.dim, *values = static_cast<const W *>(task.values) + start * task.dim;
  if constexpr (sizeof(W) < sizeof(float)) {
    if (last - first >= kManyQueries) {
      const int from = SeenOf(task.position + first_row, task.window, block).begin / static_cast<int>(kKeyGroup);
      const int seen = SeenOf(task.position + end_row - 1, task.window, block).end;
      const int64_t at = from * kKeyGroup * task.dim, groups = (seen + kKeyGroup - 1) / kKeyGroup - from;
      Widen<I>(keys + at, scratch.keys + at, groups * kKeyGroup * task.dim);
      Widen<I>(values + at, scratch.values + at, (seen - from * kKeyGroup) * task.dim);
      BlockQueries<I, float>(task, block, first, last, scratch.keys, scratch.values, scratch);
      return;
    }
  }
  BlockQueries<I, W>(task, block, first, last, keys, values, scratch);
}

template <class I, class W>
void Attend(const AttendTask &task) {
  const int64_t queries = task.rows * task.group, stride = PartFloats(task.dim);
  AttendScratch scratch;
  scratch.totals = task.scratch;
  scratch.parts = scratch.totals + queries * stride;
  scratch.scores = scratch.parts + kMostRegisterRows * stride;
  scratch.keys = scratch.scores + kMostRegisterRows * kBlockKeys;
  scratch.values = scratch.keys + kBlockKeys * task.dim;
  for (int64_t query = 0; query < queries; query += 1) scratch.totals[query * stride + 1] = 0;
  for (int64_t block = task.first_block; block < task.end_block; block += 1) AttendBlock<I, W>(task, block, scratch);
  if (task.parts != nullptr) return;
  for (int64_t query = 0; query < queries; query += 1)
    PutOut<I>(scratch.totals + query * stride, task.dim, task.out + query / task.group * task.row_stride + query % task.group * task.dim);
}

template <class I>
void MergeParts(const AttendTask &task) {
  const int64_t queries = task.rows * task.group, stride = PartFloats(task.dim);
  for (int64_t query = 0; query < queries; query += 1) {
    float *total = task.scratch;
    total[1] = 0;
    for (int64_t block = 0; block < task.end_block - task.first_block; block += 1)
      AddPart<I>(task.parts + (block * queries + query) * stride, task.dim, total);
    PutOut<I>(total, task.dim, task.out + query / task.group * task.row_stride + query % task.group * task.dim);
  }
}

}  // namespace quiver::host
