// What comes before attention, written once for all instruction sets: norm and rotation of queries and keys, and writing the cache.
//
// Each value of qkv is read once, the cache written once; the keys of a row go to `dim` places of 2 or 4 bytes, 16 keys apart.
#pragma once

#include "attention.h"
#include "tiles.h"

namespace quiver::host {

// to = rotate(norm(head)) · factor, for one head of `dim` values; `weight` nullptr: no norm.
template <class I>
__attribute__((noinline)) void Rotate(const float *head, const float *weight, float epsilon, const float *cos, const float *sin,
                                      float factor, int64_t dim, float *to) {
  using V = typename I::V;
  alignas(64) float normed[kMostHeadDim];
  if (weight != nullptr) {
    V squares = I::Zero();
    int64_t i = 0;
    for (; i + I::kWidth <= dim; i += I::kWidth) squares = I::Fma(I::Load(head + i), I::Load(head + i), squares);
    if (i < dim) {
      const V rest = I::LoadPart(head + i, static_cast<int>(dim - i));
      squares = I::Fma(rest, rest, squares);
    }
    const float scale = 1 / __builtin_sqrtf(I::Sum(squares) / static_cast<float>(dim) + epsilon);
    for (int64_t k = 0; k < dim; k += 1) normed[k] = head[k] * scale * weight[k];
    head = normed;
  }
  const int64_t half = dim / 2;
  const V scale = I::Set(factor);
  for (int64_t i = 0; i < half; i += I::kWidth) {
    const int n = static_cast<int>(Least<int64_t>(half - i, I::kWidth));
    const V left = I::LoadPart(head + i, n), right = I::LoadPart(head + half + i, n);
    const V c = I::LoadPart(cos + i, n), s = I::LoadPart(sin + i, n);
    I::StorePart(to + i, I::Mul(I::Sub(I::Mul(left, c), I::Mul(right, s)), scale), n);
    I::StorePart(to + half + i, I::Mul(I::Fma(left, s, I::Mul(right, c)), scale), n);
  }
}

template <class I, class W>
void Narrow(const float *from, W *to, int64_t n) {
  int64_t i = 0;
  for (; i + I::kWidth <= n; i += I::kWidth) I::Store(to + i, I::Load(from + i));
  if (i < n) I::StorePart(to + i, I::LoadPart(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

template <class I, class W>
void StoreRows(const StoreTask &task) {
  const AttentionCall &call = *task.call;
  const int64_t dim = call.dim, columns = (call.heads + 2 * call.kv_heads) * dim, head_keys = call.capacity * dim;
  const float query_factor = 1.4426950408889634f / __builtin_sqrtf(static_cast<float>(dim));
  alignas(64) float rotated[kMostHeadDim];
  alignas(64) W narrow[kMostHeadDim];
  for (int64_t row = task.begin; row < task.end; row += 1) {
    const int64_t position = call.position[row];
    const float *heads = call.qkv + row * columns, *cos = call.cos + position * (dim / 2), *sin = call.sin + position * (dim / 2);
    for (int64_t head = 0; head < call.heads; head += 1) {
      float *to = task.queries + (row * call.heads + head) * dim;
      Rotate<I>(heads + head * dim, call.q_norm, call.epsilon, cos, sin, query_factor, dim, to);
    }
    const float *keys = heads + call.heads * dim, *values = keys + call.kv_heads * dim;
    for (int64_t head = 0; head < call.kv_heads; head += 1) {
      const int64_t at = (call.cache_row[row] * call.kv_heads + head) * head_keys;
      Rotate<I>(keys + head * dim, call.k_norm, call.epsilon, cos, sin, 1, dim, rotated);
      Narrow<I>(rotated, narrow, dim);
      W *group = static_cast<W *>(call.keys) + at + position / kKeyGroup * kKeyGroup * dim + position % kKeyGroup;
      for (int64_t d = 0; d < dim; d += 1) group[d * kKeyGroup] = narrow[d];
      Narrow<I>(values + head * dim, static_cast<W *>(call.values) + at + position * dim, dim);
    }
  }
}

}  // namespace quiver::host
