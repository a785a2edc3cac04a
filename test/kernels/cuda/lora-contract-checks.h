// Checks of what lora.h promises besides values: the plan, and the refusals.
#pragma once

#include <functional>
#include <map>

#include "lora-shapes.h"

// The plan itself: counted, grouped, each row once.
inline void check_plan() {
  for (int slots : {1, 5, 300, 1000}) {
    for (int rows : {1, 8, 9, 40, 700}) {
      Random random(static_cast<uint64_t>(slots * 1000 + rows));
      std::vector<int> slot(rows);
      int refused = 0, planned = 0;
      std::map<int, int> counts;
      for (int &one : slot) {
        one = random.below(20) == 0 ? slots + random.below(3) : random.below(slots + 1) - 1;
        if (random.below(3) == 0) one = 0;
        if (one >= slots) refused++;
        else if (one >= 0) counts[one]++, planned++;
      }
      const Memory<int> device(slot);
      quiver_lora_call call{};
      call.rows = rows;
      call.slots = slots;
      call.slot = device.device();
      // header of 4 ints, order, segments and tiles of 4 ints: as lora_call.cuh lays it out
      const int order_at = 4, segments_at = 4 + (rows + 3) / 4 * 4, tiles_at = segments_at + 4 * std::min(rows, slots);
      Memory<int> plan(std::vector<int>(tiles_at + 4 * (rows / 9), -1));
      char text[256] = "";
      const size_t bytes = plan.host.size() * sizeof(int);
      EXPECT(quiver_lora_plan(&call, plan.device(), bytes, nullptr, text, sizeof text) == QUIVER_OK, "%s", text);
      EXPECT(cudaDeviceSynchronize() == cudaSuccess, "the plan failed");
      plan.download();
      EXPECT(plan.host[0] == refused, "%d refused, not %d", plan.host[0], refused);
      std::vector<bool> is_seen(rows, false);
      const auto take = [&](const int *segment, bool is_tile) {
        EXPECT(segment[2] >= 1 && segment[2] <= (is_tile ? 32 : 8), "%d rows in a segment", segment[2]);
        EXPECT(is_tile == (counts[segment[0]] > 8), "slot %d of %d rows is in the wrong list", segment[0], counts[segment[0]]);
        for (int at = segment[1]; at < segment[1] + segment[2]; at++) {
          const int row = plan.host[order_at + at];
          EXPECT(row >= 0 && row < rows && !is_seen[row] && slot[row] == segment[0], "row %d at place %d", row, at);
          if (row >= 0 && row < rows) is_seen[row] = true;
        }
        planned -= segment[2];
      };
      for (int at = 0; at < plan.host[1]; at++) take(&plan.host[segments_at + 4 * at], false);
      for (int at = 0; at < plan.host[2]; at++) take(&plan.host[tiles_at + 4 * at], true);
      EXPECT(planned == 0, "%d rows were not planned, %d slots, %d rows", planned, slots, rows);
    }
  }
}

// What is wrong with a call is said in a sentence, and nothing is launched.
inline void check_refusals() {
  Random random(11);
  LoraCase<half> one(shape_of(8, 17, "skewed", 2, true, random), 85);
  const Memory<char> plan(std::vector<char>(1 << 16, 0)), scratch(std::vector<char>(1 << 20, 0));
  struct Refusal {
    const char *says;
    std::function<void(quiver_lora_call &)> spoil;
  };
  const char *x = static_cast<const char *>(one.call.x);
  const std::vector<Refusal> refusals = {
      {"type 3 is neither half (1) nor bfloat16 (2)", [](auto &call) { call.type = 3; }},
      {"-1 rows; there may be 0 to 1048576", [](auto &call) { call.rows = -1; }},
      {"1048577 rows", [](auto &call) { call.rows = (1 << 20) + 1; }},
      {"0 slots; there may be 1 to 8192", [](auto &call) { call.slots = 0; }},
      {"8193 slots", [](auto &call) { call.slots = 8193; }},
      {"0 pairs", [](auto &call) { call.pair_count = 0; }},
      {"9 pairs", [](auto &call) { call.pair_count = 9; }},
      {"max_rank 129 is not 1 to 128", [](auto &call) { call.max_rank = 129; }},
      {"max_rank 0", [](auto &call) { call.max_rank = 0; }},
      {"in 71 is not a positive multiple of 8", [](auto &call) { call.in = 71; }},
      {"in 0 is not", [](auto &call) { call.in = 0; }},
      {"columns 100 is not a positive multiple of 8", [](auto &call) { call.columns = 100; }},
      {"out 12 and column 0 of pair 0 are not multiples of 8", [](auto &call) { call.pairs[0].out = 12; }},
      {"column 4 of pair 1", [](auto &call) { call.pairs[1].column = 4; }},
      {"pair 1 ends at column", [](auto &call) { call.pairs[1].column = call.columns - 8; }},
      {"pairs 0 and 1 share columns of y", [](auto &call) { call.pairs[1].column = 8; }},
      {"more than 64 GiB of x", [](auto &call) { call.rows = 1 << 20, call.in = 1 << 24; }},
      {"y is missing", [](auto &call) { call.y = nullptr; }},
      {"x is not 16-byte aligned", [&](auto &call) { call.x = x + 2; }},
      {"A is missing", [](auto &call) { call.pairs[1].a = nullptr; }},
      {"B is not 16-byte aligned", [&](auto &call) { call.pairs[0].b = x + 8; }},
      {"rank is not 4-byte aligned", [&](auto &call) { call.pairs[0].rank = reinterpret_cast<const int32_t *>(x + 1); }},
      {"scale is missing", [](auto &call) { call.scale = nullptr; }},
      {"y overlaps x", [](auto &call) { call.y = const_cast<void *>(call.x); }},
  };
  for (const Refusal &refusal : refusals) {
    quiver_lora_call call = one.call;
    refusal.spoil(call);
    char text[256] = "";
    const int code = quiver_lora_apply(&call, plan.device(), 1 << 16, scratch.device(), 1 << 20, nullptr, text, sizeof text);
    EXPECT(code == QUIVER_INVALID_ARGUMENT && strstr(text, refusal.says) != nullptr, "%s: code %d, \"%s\"", refusal.says, code, text);
  }
  const auto memory = [&](const char *says, const void *own_plan, size_t plan_bytes, void *own_scratch, size_t scratch_bytes) {
    char text[256] = "";
    const int code = quiver_lora_apply(&one.call, own_plan, plan_bytes, own_scratch, scratch_bytes, nullptr, text, sizeof text);
    EXPECT(code == QUIVER_INVALID_ARGUMENT && strstr(text, says) != nullptr, "%s: code %d, \"%s\"", says, code, text);
  };
  memory("plan is missing", nullptr, 1 << 16, scratch.device(), 1 << 20);
  memory("plan has 16 bytes and needs", plan.device(), 16, scratch.device(), 1 << 20);
  memory("scratch is missing or not 16-byte aligned", plan.device(), 1 << 16, scratch.device() + 4, 1 << 20);
  memory("scratch has 15 bytes and needs", plan.device(), 1 << 16, scratch.device(), 15);
  quiver_lora_call call = one.call;
  call.slot = nullptr;
  char text[256] = "";
  EXPECT(quiver_lora_plan(&call, plan.device(), 1 << 16, nullptr, text, sizeof text) == QUIVER_INVALID_ARGUMENT &&
             strstr(text, "slot is missing") != nullptr, "\"%s\"", text);
  // A text that is too long for its place is cut, and none is allowed.
  char small[8] = "";
  call.type = 9;
  EXPECT(quiver_lora_apply(&call, nullptr, 0, nullptr, 0, nullptr, small, sizeof small) == QUIVER_INVALID_ARGUMENT && strlen(small) == 7,
         "\"%s\"", small);
  EXPECT(quiver_lora_apply(&call, nullptr, 0, nullptr, 0, nullptr, nullptr, 0) == QUIVER_INVALID_ARGUMENT, "no text");
  one.y.download();
  EXPECT(memcmp(one.y.host.data(), one.y_before.data(), one.y_before.size() * 2) == 0, "a refused call changed y");
}
