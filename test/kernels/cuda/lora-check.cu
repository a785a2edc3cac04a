// Compares the LoRA kernels with a plain computation in double: `lora-check sweep full|small SEED`, or `lora-check NAME`. Ends with
// 0 and says how near the results were, or with 1 and says which case was wrong. Compiles for the shim and by nvcc alike.
#include <cstdlib>
#include <functional>
#include <map>

#include "lora-cases.h"

namespace {

int failures = 0;

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

std::vector<int> slots_of(const std::string &mix, int rows, int slots, Random &random) {
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
Shape shape_of(int rank, int rows, const std::string &mix, int pairs, bool is_small, Random &random) {
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

template <typename T>
void sweep(bool is_small, uint64_t seed, const char *type, double &worst, int &cases) {
  Random random(seed);
  const std::vector<int> ranks = is_small ? std::vector<int>{1, 16, 0} : std::vector<int>{1, 5, 8, 16, 64, 128, 0};
  const std::vector<int> row_counts = is_small ? std::vector<int>{0, 1, 17, 40} : std::vector<int>{0, 1, 17, 256};
  for (int rank : ranks) {
    for (int rows : row_counts) {
      for (const char *mix : mixes) {
        const int pairs = cases++ % 2 == 0 ? 1 : 3;
        LoraCase<T> one(shape_of(rank, rows, mix, pairs, is_small, random), seed + cases);
        std::string text;
        const int code = one.run(text);
        const double error = code == QUIVER_OK ? one.worst_error() : std::numeric_limits<double>::infinity();
        worst = std::max(worst, error);
        EXPECT(error <= 1, "%s, rank %d, %d rows, %s, %d pairs: code %d, error %g of what is allowed %s", type, rank, rows, mix, pairs,
               code, error, text.c_str());
      }
    }
  }
}

void run_sweep(bool is_small, uint64_t seed) {
  double worst = 0;
  int cases = 0;
  sweep<half>(is_small, seed, "half", worst, cases);
  sweep<bfloat16>(is_small, seed + 1000, "bfloat16", worst, cases);
  printf("%d cases, largest error %.2f of what is allowed\n", cases, worst);
}

// More rows of x than one split of `in`, more columns than one part, and every row count around the edges of tiles.
void check_edges() {
  Random random(5);
  for (int rows : {7, 8, 9, 31, 32, 33, 65}) {
    Shape shape = shape_of(0, rows, "one", 1, true, random);
    shape.ranks[0][2] = 17 + rows;
    LoraCase<half> one(shape, rows);
    std::string text;
    EXPECT(one.run(text) == QUIVER_OK && one.worst_error() <= 1, "%d rows: %g %s", rows, one.worst_error(), text.c_str());
  }
  for (int rows : {6, 40}) {
    Shape shape = shape_of(16, rows, "skewed", 2, false, random);
    shape.in = 2120;
    shape.outs = {1160, 520};
    LoraCase<bfloat16> one(shape, 77);
    std::string text;
    EXPECT(one.run(text) == QUIVER_OK && one.worst_error() <= 1, "long rows, %d of them: %g %s", rows, one.worst_error(), text.c_str());
  }
  // All eight pairs, and ranks that sum to more than a tile's 128 columns.
  for (int rows : {5, 20}) {
    Shape shape = shape_of(64, rows, "one", 1, true, random);
    shape.outs = {8, 16, 24, 8, 136, 8, 8, 40};
    shape.ranks.assign(8, std::vector<int>(shape.slots, 61));
    LoraCase<half> one(shape, 78);
    std::string text;
    EXPECT(one.run(text) == QUIVER_OK && one.worst_error() <= 1, "eight pairs, %d rows: %g %s", rows, one.worst_error(), text.c_str());
  }
}

// A row's result may not depend on whether it was computed alone (decode) or in company (prefill) beyond y's rounding.
void check_company() {
  Random random(6);
  for (int rows : {1, 40}) {
    Shape shape = shape_of(64, 40, "one", 1, false, random);
    if (rows == 1) {
      shape.rows = 1;
      shape.slot.resize(1);
    }
    LoraCase<bfloat16> one(shape, 79);
    // y begins at zero, so that only the product is seen.
    for (bfloat16 &value : one.y.host) value = from_float<bfloat16>(0);
    one.y.upload();
    one.y_before = one.y.host;
    std::string text;
    EXPECT(one.run(text) == QUIVER_OK && one.worst_error() <= 1, "%d rows: %g %s", rows, one.worst_error(), text.c_str());
  }
}

// Slots and ranks that do not exist are taken for none, and counted.
void check_contained() {
  Random random(7);
  for (int rows : {6, 60}) {
    Shape shape = shape_of(16, rows, "different", 2, true, random);
    shape.slot[1] = shape.slots;
    shape.slot[3] = -7;
    shape.slot[4] = 1 << 30;
    for (int row = 5; row < rows; row++) shape.slot[row] = row % 5;
    shape.ranks[0][0] = -3;
    shape.ranks[1][2] = shape.max_rank + 1;
    LoraCase<half> one(shape, 80);
    std::string text;
    EXPECT(one.run(text) == QUIVER_OK && one.worst_error() <= 1, "%d rows: %g %s", rows, one.worst_error(), text.c_str());
  }
}

// A NaN in a row of x stays in that row, one in an adapter's weights in that adapter's rows.
void check_nans() {
  Random random(8);
  for (int rows : {6, 60}) {
    Shape shape = shape_of(16, rows, "different", 1, true, random);
    for (int row = 0; row < rows; row++) shape.slot[row] = row % 3;
    LoraCase<half> in_x(shape, 81);
    in_x.x.host[2 * shape.in + 5] = nan_of<half>();
    in_x.x.upload();
    std::string text;
    EXPECT(in_x.run(text) == QUIVER_OK, "%s", text.c_str());
    const auto rest = [](int row) { return row == 2; };
    EXPECT(in_x.worst_error(rest) <= 1, "NaN in x, %d rows: %g", rows, in_x.worst_error(rest));
    EXPECT(std::isnan(to_float(in_x.y.host[2 * in_x.columns])), "the row with a NaN in x shows none");
    for (bool in_b : {false, true}) {
      LoraCase<half> weights(shape, 82);
      Memory<half> &pool = in_b ? weights.b[0] : weights.a[0];
      pool.host[static_cast<size_t>(1) * shape.max_rank * (in_b ? shape.outs[0] : shape.in) + 4] = nan_of<half>();
      pool.upload();
      EXPECT(weights.run(text) == QUIVER_OK, "%s", text.c_str());
      const auto of_slot = [&](int row) { return shape.slot[row] == 1; };
      EXPECT(weights.worst_error(of_slot) <= 1, "NaN in weights, %d rows: %g", rows, weights.worst_error(of_slot));
      EXPECT(std::isnan(to_float(weights.y.host[weights.columns + 4])), "a NaN in the weights is lost");
    }
  }
}

// Sums that half cannot hold: up to twice its range the prefill kernels share them out, beyond it they are infinite, never NaN.
void check_large() {
  for (float size : {1.0f, 90.0f, 400.0f}) {
    for (int rows : {4, 20}) {
      Random random(9);
      Shape shape = shape_of(5, rows, "one", 1, true, random);
      LoraCase<half> one(shape, 83);
      for (half &value : one.x.host) value = from_float<half>(size);
      for (half &value : one.a[0].host) value = std::isnan(to_float(value)) ? value : from_float<half>(15);
      for (half &value : one.b[0].host) value = std::isnan(to_float(value)) ? value : from_float<half>(0.001f);
      one.x.upload();
      one.a[0].upload();
      one.b[0].upload();
      std::string text;
      EXPECT(one.run(text) == QUIVER_OK, "%s", text.c_str());
      const bool is_beyond = size == 400.0f && rows == 20;
      if (!is_beyond) EXPECT(one.worst_error() <= 1, "x of %g, %d rows: %g", double(size), rows, one.worst_error());
      else EXPECT(std::isinf(to_float(one.y.host[0])), "%g is not infinite", double(to_float(one.y.host[0])));
    }
  }
}

// Everything a call does can be captured, and the graph does it again.
void check_graph() {
  Random random(10);
  LoraCase<half> one(shape_of(16, 40, "skewed", 3, true, random), 84);
  size_t plan_bytes = 0, scratch_bytes = 0;
  char text[256] = "";
  EXPECT(quiver_lora_sizes(&one.call, &plan_bytes, &scratch_bytes, text, sizeof text) == QUIVER_OK, "%s", text);
  const Memory<char> plan(std::vector<char>(plan_bytes, '\xff')), scratch(std::vector<char>(scratch_bytes, '\xff'));
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cudaStreamCreate(&stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  EXPECT(quiver_lora_plan(&one.call, plan.device(), plan_bytes, stream, text, sizeof text) == QUIVER_OK, "%s", text);
  EXPECT(quiver_lora_apply(&one.call, plan.device(), plan_bytes, scratch.device(), scratch_bytes, stream, text, sizeof text) == QUIVER_OK,
         "%s", text);
  const cudaError_t captured = cudaStreamEndCapture(stream, &graph);
  EXPECT(captured == cudaSuccess, "%s", cudaGetErrorString(captured));
  if (captured != cudaSuccess) return;
  one.y.download();
  EXPECT(memcmp(one.y.host.data(), one.y_before.data(), one.y_before.size() * 2) == 0, "capturing computed something");
  EXPECT(cudaGraphInstantiate(&executable, graph) == cudaSuccess, "the graph cannot be made");
  for (int turn = 0; turn < 2; turn++) {
    one.y_before = one.y.host;
    EXPECT(cudaGraphLaunch(executable, stream) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess, "the graph did not run");
    one.y.download();
    EXPECT(one.worst_error() <= 1, "turn %d: %g", turn, one.worst_error());
  }
}

// The plan itself: counted, grouped, each row once.
void check_plan() {
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
void check_refusals() {
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

}  // namespace

int main(int count, char **words) {
  const std::string name = count > 1 ? words[1] : "";
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices)) {
    fprintf(stderr, "lora-check: no GPU can be used here (%s)\n", cudaGetErrorString(error));
    return 3;
  }
  const std::map<std::string, void (*)()> checks = {
      {"edges", check_edges}, {"company", check_company}, {"contained", check_contained}, {"nans", check_nans},
      {"large", check_large}, {"graph", check_graph},     {"plan", check_plan},           {"refusals", check_refusals},
  };
  if (name == "sweep" && count > 3) run_sweep(strcmp(words[2], "small") == 0, strtoull(words[3], nullptr, 10));
  else if (checks.count(name) == 1) checks.at(name)();
  else {
    fprintf(stderr, "lora-check: no check %s\n", name.c_str());
    return 2;
  }
  if (failures == 0) printf("right\n");
  return failures == 0 ? 0 : 1;
}
