// Attention as one instruction set computes it, and what its tasks are made of (the formula is in operator/attention_call.h).
//
// What is computed for a row depends on nothing but its own sequence: keys are taken in blocks of kBlockKeys from position 0 on, a
// block gives a partial result (its largest score, the sum of the weights relative to that, the weighted values), and partial
// results are merged in the order of the blocks. Within a block each score is one sum over the dimensions in their order, and each
// value one sum over the keys in theirs. So a row gets the same bits alone, among the rows of a prompt, and however tasks are cut.
#pragma once

#include <cstdint>

#include "../operator/attention_call.h"

namespace quiver::host {

constexpr int kBlockKeys = 128;
// Queries (rows × heads of one kv head) of a tile, as far as one row does not have more.
constexpr int kTileQueries = 48;
// Rows × heads that are computed at once from registers, at most.
constexpr int kMostRegisterRows = 6;
// From this many queries on, a block of float16 is first widened: it pays when each is used often.
constexpr int kManyQueries = 12;

// Rotates, normalises and writes the keys of rows begin … end, their values, and their queries times log2(e) / √dim.
struct StoreTask {
  const AttentionCall *call;
  float *queries;  // [rows, heads · dim]
  int64_t begin;
  int64_t end;
};

// Rows of one sequence with the heads of one kv head, over blocks first_block … end_block of the keys.
struct AttendTask {
  const float *queries;  // of the first row and head; a row's heads stand together
  int64_t row_stride;    // of queries and of out
  int64_t rows;
  int64_t group;         // heads of the kv head
  int64_t dim;
  const void *keys;      // [capacity / kKeyGroup, dim, kKeyGroup]
  const void *values;    // [capacity, dim]
  int64_t position;      // of the first row, the others follow one by one
  int64_t window;        // 0: none
  int64_t first_block;
  int64_t end_block;
  float *out;            // of the first row and head; not used where there are parts
  float *parts;          // of first_block: [blocks][rows · group][PartFloats(dim)]; nullptr: merged and put into out
  float *scratch;        // AttendFloats(rows · group, dim)
};

// A partial result: its largest score, the sum of the weights (0: no key of the block is seen), then dim values.
constexpr int64_t kPartHeader = 2;
constexpr int64_t PartFloats(int64_t dim) { return kPartHeader + dim; }

// Totals of all queries, parts and scores of the rows in registers, and a widened block of keys and values.
constexpr int64_t AttendFloats(int64_t queries, int64_t dim) {
  return (queries + kMostRegisterRows) * PartFloats(dim) + kMostRegisterRows * kBlockKeys + 2 * kBlockKeys * dim;
}

struct AttentionKernels {
  // By Element; nullptr where a cache cannot be of that.
  void (*store[kElementCount])(const StoreTask &);
  void (*attend[kElementCount])(const AttendTask &);
  // Merges the parts of all blocks of a task into its out.
  void (*merge)(const AttendTask &);
};

}  // namespace quiver::host
