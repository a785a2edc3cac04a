// One call of quiver::Attention after everything about it has been checked: what a build of the operator computes from.
//
// For row t of the sequence that lies in row c = cache_row[t] of the cache, at position p = position[t], and for each kv head g:
//
//   k = rotate(norm_k(qkv[t, heads + g]), p)     key[c, g, p] = k     value[c, g, p] = qkv[t, heads + kv_heads + g]
//
// and then for each head h, which reads the kv head g = h / (heads / kv_heads):
//
//   q = rotate(norm_q(qkv[t, h]), p)
//   out[t, h] = Σ_j w_j · value[c, g, j]     w = softmax_j(q · key[c, g, j] / √dim)     max(0, p − window + 1) <= j <= p
//
// All rows write before any of them reads, so that rows of one prompt see each other. `norm` is the RMS norm of a head times a
// weight, where the model has one; `rotate` turns dimension i with i + dim/2 by the angle whose cosine is cos[p, i].
#pragma once

#include <cstdint>

#include "lora_call.h"

namespace quiver {

// Keys lie in groups of so many, dimension by dimension: [groups, dim, 16]. A vector then holds one dimension of 16 keys.
constexpr int64_t kKeyGroup = 16;
// Bounds what a task holds of its own.
constexpr int64_t kMostHeadDim = 512;
// Rows of a cache that are told apart without allocating anything.
constexpr int64_t kMostCacheRows = 4096;

struct AttentionCall {
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  // Even, a multiple of 8.
  int64_t dim = 0;
  int64_t cache_rows = 0;
  // Tokens of a row of the cache, a multiple of kKeyGroup.
  int64_t capacity = 0;
  // How many keys a row sees, itself included; 0: all before it.
  int64_t window = 0;
  float epsilon = 0;
  // Of keys and values: float32 or float16.
  Element cache = Element::kF32;
  const float *qkv = nullptr;           // [rows, (heads + 2 · kv_heads) · dim]
  void *keys = nullptr;                 // [cache_rows, kv_heads, capacity / kKeyGroup, dim, kKeyGroup], written
  void *values = nullptr;               // [cache_rows, kv_heads, capacity, dim], written
  const int32_t *cache_row = nullptr;   // [rows]; rows with the same one stand together and no two runs have the same one
  const int32_t *position = nullptr;    // [rows] 0 … capacity−1, ascending by one within a sequence
  const float *cos = nullptr;           // [positions, dim / 2]
  const float *sin = nullptr;
  const float *q_norm = nullptr;        // [dim], or none
  const float *k_norm = nullptr;
  float *out = nullptr;                 // [rows, heads · dim], overwritten
};

}  // namespace quiver
