// How fast the LoRA kernels read adapters in decode: one row for each of so many adapters, all of one rank, against a plain copy inside the
// device. Prints a line for each: name, milliseconds of the median run, bytes that must move.
//
//   lora-bench HIDDEN ADAPTERS RANK RUNS      e.g. 4096 32 16 200
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/lora.h"
#include "gpu.cuh"

namespace {

constexpr size_t copied_bytes = size_t{1} << 28;
/** More sets of adapters than any GPU's cache holds, used in turns, so that every run reads memory. */
constexpr size_t cold_bytes = size_t{1} << 28;

void Check(int code, const char *what) {
  if (code == 0) return;
  fprintf(stderr, "lora-bench: %s failed (%d)\n", what, code);
  exit(1);
}

void *Memory(size_t bytes, int value) {
  void *memory = nullptr;
  Check(cudaMalloc(&memory, bytes), "cudaMalloc");
  Check(cudaMemset(memory, value, bytes), "cudaMemset");
  return memory;
}

template <typename Run>
double MedianMs(int runs, Run run) {
  std::vector<double> times;
  for (int at = 0; at < runs; at++) {
    Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    const auto start = std::chrono::steady_clock::now();
    // Several in a row, so that a launch's own time is not what is measured.
    constexpr int in_a_row = 20;
    for (int turn = 0; turn < in_a_row; turn++) run(at * in_a_row + turn);
    Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() / in_a_row);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int count, char **words) {
  if (count != 5) {
    fprintf(stderr, "lora-bench HIDDEN ADAPTERS RANK RUNS\n");
    return 2;
  }
  const int64_t hidden = atoll(words[1]), adapters = atoll(words[2]), rank = atoll(words[3]);
  const int runs = atoi(words[4]);
  const size_t pool_bytes = adapters * rank * hidden * 2;
  const int sets = static_cast<int>(std::max<size_t>(2, cold_bytes / (2 * pool_bytes)));

  std::vector<int32_t> slots(adapters), ranks(adapters, static_cast<int32_t>(rank));
  std::vector<float> scales(adapters, 1.0f);
  for (int64_t at = 0; at < adapters; at++) slots[at] = static_cast<int32_t>(at);
  const auto copied = [](const auto &values) {
    void *memory = Memory(values.size() * sizeof(values[0]), 0);
    Check(cudaMemcpy(memory, values.data(), values.size() * sizeof(values[0]), cudaMemcpyHostToDevice), "cudaMemcpy");
    return memory;
  };

  quiver_lora_call call{};
  call.type = QUIVER_LORA_HALF;
  call.pair_count = 1;
  call.rows = call.slots = adapters;
  call.in = call.columns = hidden;
  call.max_rank = rank;
  call.y = Memory(adapters * hidden * 2, 0);
  call.x = Memory(adapters * hidden * 2, 0);
  call.slot = static_cast<const int32_t *>(copied(slots));
  call.scale = static_cast<const float *>(copied(scales));
  call.pairs[0].rank = static_cast<const int32_t *>(copied(ranks));
  call.pairs[0].out = hidden;
  char *pools = static_cast<char *>(Memory(2 * sets * pool_bytes, 0));

  size_t plan_bytes = 0, scratch_bytes = 0;
  char text[256];
  Check(quiver_lora_sizes(&call, &plan_bytes, &scratch_bytes, text, sizeof text), "quiver_lora_sizes");
  void *plan = Memory(plan_bytes, 0), *scratch = Memory(scratch_bytes, 0);
  Check(quiver_lora_plan(&call, plan, plan_bytes, nullptr, text, sizeof text), "quiver_lora_plan");
  const double ms = MedianMs(runs, [&](int at) {
    call.pairs[0].a = pools + 2 * (at % sets) * pool_bytes;
    call.pairs[0].b = pools + (2 * (at % sets) + 1) * pool_bytes;
    Check(quiver_lora_apply(&call, plan, plan_bytes, scratch, scratch_bytes, nullptr, text, sizeof text), text);
  });
  // Each adapter's weights once, x once, y there and back (docs/kernels.md).
  printf("decode %.6f %zu\n", ms, 2 * pool_bytes + static_cast<size_t>(adapters * hidden) * 2 * 3);

  char *from = static_cast<char *>(Memory(copied_bytes, 1)), *to = static_cast<char *>(Memory(copied_bytes, 0));
  const double copy_ms = MedianMs(std::max(1, runs / 20), [&](int) {
    Check(cudaMemcpyAsync(to, from, copied_bytes, cudaMemcpyDeviceToDevice, nullptr), "cudaMemcpyAsync");
  });
  printf("copy %.6f %zu\n", copy_ms, 2 * copied_bytes);
  return 0;
}
