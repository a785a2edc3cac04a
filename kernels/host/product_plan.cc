#include "product_plan.h"

#include <algorithm>
#include <cstddef>

#include "scratch.h"

namespace quiver::host {
namespace {

// Rows that are computed together have this many integers at most: half of a small second cache.
constexpr int64_t kMostValues = 512 * 1024;
// Below this many rows the calling thread makes all of them integers: some microseconds.
constexpr int64_t kRowsToShare = 2 * kTileRows;
// A task reads at least this much of the weights, unless it has many rows: taking a task costs some tenth of a microsecond.
constexpr int64_t kLeastTaskBytes = 32 * 1024;
// Threads that start late, or are held up, leave tasks to the others.
constexpr int64_t kTasksPerThread = 8;
// Whole tiles are read where rows end early.
constexpr size_t kPadBytes = kTileRows * kBlockInputs;
constexpr size_t kAlignment = 64;

struct Work {
  const ProductCall &call;
  const ProductKernels &kernels;
  const float *x;
  float *y;
  QuantizedRows rows;
  int64_t panels_per_task;
};

int64_t RowsTogether(int64_t rows, int64_t blocks) {
  const int64_t fitting = kMostValues / (blocks * kBlockInputs) / kTileRows * kTileRows;
  return std::min(rows, std::max<int64_t>(fitting, 2 * kTileRows));
}

int64_t PanelsPerTask(int64_t panels, int64_t units, int64_t rows, int threads) {
  const int64_t shared = (panels + threads * kTasksPerThread - 1) / (threads * kTasksPerThread);
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const int64_t least = kLeastTaskBytes / (units * kUnitBytes * tiles);
  return std::max<int64_t>(1, std::max(shared, least));
}

void QuantizeTile(void *data, size_t index) {
  const Work &work = *static_cast<const Work *>(data);
  const int64_t begin = static_cast<int64_t>(index) * kTileRows;
  work.kernels.quantize(work.x, work.call.in, begin, std::min(begin + kTileRows, work.rows.rows), work.rows);
}

void MultiplyPanels(void *data, size_t index) {
  const Work &work = *static_cast<const Work *>(data);
  const int64_t begin = static_cast<int64_t>(index) * work.panels_per_task;
  const int64_t end = std::min(begin + work.panels_per_task, PanelCount(work.call.out));
  work.kernels.multiply({work.call.weights, UnitCount(work.call.in), begin, end, work.rows, work.y, work.call.out});
}

// Room for some rows as integers. @return whether there was enough memory
bool Reserve(int64_t rows, int64_t blocks, QuantizedRows *to) {
  const size_t padded = static_cast<size_t>((rows + kTileRows - 1) / kTileRows * kTileRows);
  const size_t count = padded * static_cast<size_t>(blocks);
  const size_t value_bytes = count * kBlockInputs + kPadBytes;
  char *memory = static_cast<char *>(
      ScratchOfThread().quantized.Reserve(value_bytes + count * (sizeof(float) + sizeof(int32_t)) + kAlignment));
  if (memory == nullptr) return false;
  memory += (kAlignment - reinterpret_cast<uintptr_t>(memory) % kAlignment) % kAlignment;
  to->values = reinterpret_cast<int8_t *>(memory);
  to->scales = reinterpret_cast<float *>(memory + value_bytes);
  to->sums = reinterpret_cast<int32_t *>(to->scales + count);
  return true;
}

}  // namespace

const char *RunProduct(const ProductCall &call, const ProductKernels &kernels, int threads, Parallel &parallel) {
  if (call.rows == 0 || call.out == 0) return nullptr;
  const int64_t units = UnitCount(call.in), blocks = units * (kUnitInputs / kBlockInputs), panels = PanelCount(call.out);
  const int64_t together = RowsTogether(call.rows, blocks);
  QuantizedRows rows = {nullptr, nullptr, nullptr, 0, blocks};
  if (!Reserve(together, blocks, &rows)) return "quiver::Product8: out of memory";
  for (int64_t row = 0; row < call.rows; row += together) {
    rows.rows = std::min(together, call.rows - row);
    Work work = {call, kernels, call.x + row * call.in, call.y + row * call.out, rows,
                 PanelsPerTask(panels, units, rows.rows, threads)};
    const size_t tiles = static_cast<size_t>((rows.rows + kTileRows - 1) / kTileRows);
    const size_t tasks = static_cast<size_t>((panels + work.panels_per_task - 1) / work.panels_per_task);
    if (threads > 1 && rows.rows >= kRowsToShare) parallel.For(tiles, QuantizeTile, &work);
    else for (size_t tile = 0; tile < tiles; tile += 1) QuantizeTile(&work, tile);
    if (threads > 1 && tasks > 1) parallel.For(tasks, MultiplyPanels, &work);
    else for (size_t task = 0; task < tasks; task += 1) MultiplyPanels(&work, task);
  }
  return nullptr;
}

}  // namespace quiver::host
