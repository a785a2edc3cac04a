// Shapes of the calls that are checked, and how a check says that something is wrong.
#pragma once

#include <algorithm>

#include "lora-cases.h"

inline int failures = 0;

#define EXPECT(condition, ...)                                    \
  do {                                                            \
    if (!(condition)) {                                           \
      printf("wrong: %s, line %d: ", #condition, __LINE__);       \
      printf(__VA_ARGS__);                                        \
      printf("\n");                                               \
      failures++;                                                 \
    }                                                             \
  } while (0)

// How rows are spread over slots.
const char *const mixes[] = {"one", "different", "skewed", "with-base-rows"};

inline std::vector<int> slots_of(const std::string &mix, int rows, int slots, Random &random) {
  std::vector<int> slot(rows);
  for (int row = 0; row < rows; row++) {
    if (mix == "one") slot[row] = 2;
    else if (mix == "different") slot[row] = row % slots;
    else slot[row] = random.below(10) < 7 ? 1 : random.below(slots);
    if (mix == "with-base-rows" && row % 3 == 0) slot[row] = -1;
  }
  // Not sorted: neighbours swapped at random.
  for (int row = rows - 1; row > 0; row--) std::swap(slot[row], slot[random.below(row + 1)]);
  return slot;
}

// `rank` 0: mixed, from none to 128.
inline Shape shape_of(int rank, int rows, const std::string &mix, int pairs, bool is_small, Random &random) {
  Shape shape;
  shape.rows = rows;
  shape.in = is_small ? 72 : 136;
  shape.slots = mix == "different" ? std::max(4, std::min(rows, is_small ? 24 : 64)) : 6;
  shape.max_rank = rank == 0 ? 128 : std::min(128, rank + 3);
  const int outs[] = {is_small ? 136 : 264, 64, 8};
  shape.outs.assign(outs, outs + pairs);
  shape.slot = slots_of(mix, rows, shape.slots, random);
  const int mixed[] = {1, 64, 5, 128, 0, 16, 8, 33};
  for (int pair = 0; pair < pairs; pair++) {
    std::vector<int> ranks(shape.slots);
    for (int at = 0; at < shape.slots; at++) ranks[at] = rank == 0 ? mixed[(at + pair * 3) % 8] : rank;
    // A module that some adapters leave alone.
    if (pair == 1) ranks[1] = 0;
    shape.ranks.push_back(ranks);
  }
  return shape;
}
