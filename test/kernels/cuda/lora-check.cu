// Compares the LoRA kernels with a plain computation in double: `lora-check sweep full|small SEED`, or `lora-check NAME`. Ends with
// 0 and says how near the results were, or with 1 and says which case was wrong. Compiles for the shim and by nvcc alike.
#include <cstdlib>
#include <map>

#include "lora-contract-checks.h"
#include "lora-shapes.h"

namespace {

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
