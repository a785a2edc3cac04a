// One call of quiver::Lora after everything about it has been checked: what a build of the operator computes from.
//
//   y[t, column_m + o] += scale[s] · Σ_r B_m[s, r, o] · (Σ_i A_m[s, r, i] · x[t, i])      s = slot[t], r < rank_m[s]
//
// for every row t with slot[t] >= 0 and every pair m. Rows with slot −1 keep their y. Modules that read the same x (q, k, v;
// gate, up) are the pairs of one call: their outputs stand side by side in y, and x is read once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "parallel.h"

namespace quiver {

enum class Element : int { kF32, kF16, kBF16 };
constexpr int kElementCount = 3;
constexpr int64_t ElementBytes(Element element) { return element == Element::kF32 ? 4 : 2; }

// Modules of one call; q, k and v are the most that a model has.
constexpr int kMaxPairs = 8;

struct LoraPair {
  // [slots, max_rank, in]; rows past an adapter's rank are never read
  const void *a = nullptr;
  // [slots, max_rank, out]
  const void *b = nullptr;
  // [slots] rank of each slot's adapter at this module, 0 … max_rank; 0 where it has none
  const int32_t *rank = nullptr;
  int64_t out = 0;
  // First column of y that is this module's.
  int64_t column = 0;
};

struct LoraCall {
  int64_t rows = 0;
  int64_t in = 0;
  // Columns of y: the sum of all `out`.
  int64_t columns = 0;
  int64_t slots = 0;
  int64_t max_rank = 0;
  // The node's place among a model's: the row of the table of ranks that is its first pair's. 0 is the first to run.
  int64_t site = 0;
  // Of A and B. x and y are of the build's own type (LoraBackend::activation).
  Element weights = Element::kF16;
  void *y = nullptr;              // [rows, columns], accumulated into
  const void *x = nullptr;        // [rows, in]
  const int32_t *slot = nullptr;  // [rows], −1 … slots−1
  const float *scale = nullptr;   // [slots]
  int pair_count = 0;
  LoraPair pairs[kMaxPairs];
};

}  // namespace quiver
