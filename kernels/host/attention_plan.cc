#include "attention_plan.h"

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "scratch.h"
#include "task_costs.h"

namespace quiver::host {
namespace {

// What a thread does in a nanosecond, roughly: bytes of the cache from memory, and products. Only choices between ways depend on it.
constexpr double kBytesPerNs = 10;
constexpr double kProductsPerNs = 25;
// Rows that are stored by one task, and from how many values of qkv on it is shared out.
constexpr int64_t kStoreRows = 8;
constexpr int64_t kManyValues = 32 * 1024;

constexpr const char *kOutOfMemory = "quiver::Attention: out of memory";

struct Task {
  AttendTask attend;
  double ns;
};

class Run {
 public:
  Run(const AttentionCall &call, const AttentionKernels &kernels, int threads, Parallel &parallel)
      : call_(call),
        store_(kernels.store[static_cast<int>(call.cache)]),
        attend_(kernels.attend[static_cast<int>(call.cache)]),
        merge_(kernels.merge),
        threads_(threads),
        parallel_(parallel),
        scratch_(ScratchOfThread()),
        group_(call.heads / call.kv_heads),
        tile_rows_(std::max<int64_t>(1, kTileQueries / group_)) {}

  const char *operator()() {
    queries_ = static_cast<float *>(scratch_.queries.Reserve(static_cast<size_t>(call_.rows * call_.heads * call_.dim) * sizeof(float)));
    if (queries_ == nullptr) return kOutOfMemory;
    StoreAll();
    if (!MakeTiles()) return kOutOfMemory;
    double total = 0, longest = 0;
    for (size_t i = 0; i < tile_count_; i += 1) {
      total += tiles_[i].ns;
      longest = std::max(longest, tiles_[i].ns);
    }
    const double shared = total / threads_;
    if (threads_ == 1 || total < shared + kWakeNs) {
      for (size_t i = 0; i < tile_count_; i += 1) RunTask(tiles_[i]);
    } else if (longest <= shared / kTasksPerThread) {
      RunAll(tiles_, tile_count_);
    } else if (!RunCut(std::max(kSmallestTaskNs, shared / kTasksPerThread))) {
      return kOutOfMemory;
    }
    return is_out_of_memory_ ? kOutOfMemory : nullptr;
  }

 private:
  void StoreAll() {
    const int64_t values = call_.rows * (call_.heads + 2 * call_.kv_heads) * call_.dim;
    if (threads_ == 1 || values < kManyValues) {
      store_({&call_, queries_, 0, call_.rows});
      return;
    }
    const size_t count = static_cast<size_t>((call_.rows + kStoreRows - 1) / kStoreRows);
    parallel_.For(
        count,
        [](void *run, size_t i) {
          const Run &self = *static_cast<const Run *>(run);
          const int64_t begin = static_cast<int64_t>(i) * kStoreRows;
          self.store_({&self.call_, self.queries_, begin, std::min(self.call_.rows, begin + kStoreRows)});
        },
        this);
  }

  // What a tile reads of the cache, and what it computes.
  double Nanoseconds(int64_t queries, int64_t keys) const {
    const double bytes = static_cast<double>(2 * keys * call_.dim * ElementBytes(call_.cache));
    return std::max(bytes / kBytesPerNs, static_cast<double>(2 * queries * keys * call_.dim) / kProductsPerNs);
  }

  // Every tile whole.
  bool MakeTiles() {
    size_t most = 0;
    ForSequences([&](int64_t, int64_t rows) { most += static_cast<size_t>((rows + tile_rows_ - 1) / tile_rows_ * call_.kv_heads); });
    tiles_ = static_cast<Task *>(scratch_.tasks.Reserve(most * sizeof(Task)));
    if (tiles_ == nullptr) return false;
    ForSequences([&](int64_t first, int64_t rows) {
      const int64_t count = (rows + tile_rows_ - 1) / tile_rows_;
      for (int64_t tile = 0; tile < count; tile += 1) {
        const int64_t begin = rows * tile / count, end = rows * (tile + 1) / count;
        for (int64_t head = 0; head < call_.kv_heads; head += 1) AddTile(first + begin, end - begin, head);
      }
    });
    return true;
  }

  template <class Body>
  void ForSequences(const Body &body) const {
    for (int64_t first = 0, end = 0; first < call_.rows; first = end) {
      end = first + 1;
      while (end < call_.rows && call_.cache_row[end] == call_.cache_row[first]) end += 1;
      body(first, end - first);
    }
  }

  void AddTile(int64_t row, int64_t rows, int64_t head) {
    const int64_t position = call_.position[row], last = position + rows - 1;
    const int64_t first_key = call_.window > 0 ? std::max<int64_t>(0, position - call_.window + 1) : 0;
    const int64_t at = (call_.cache_row[row] * call_.kv_heads + head) * call_.capacity * call_.dim * ElementBytes(call_.cache);
    AttendTask attend = {};
    attend.queries = queries_ + (row * call_.heads + head * group_) * call_.dim;
    attend.row_stride = call_.heads * call_.dim;
    attend.rows = rows;
    attend.group = group_;
    attend.dim = call_.dim;
    attend.keys = static_cast<const char *>(call_.keys) + at;
    attend.values = static_cast<const char *>(call_.values) + at;
    attend.position = position;
    attend.window = call_.window;
    attend.first_block = first_key / kBlockKeys;
    attend.end_block = last / kBlockKeys + 1;
    attend.out = call_.out + (row * call_.heads + head * group_) * call_.dim;
    tiles_[tile_count_] = {attend, Nanoseconds(rows * group_, last + 1 - first_key)};
    tile_count_ += 1;
  }

  void RunAll(Task *tasks, size_t count) {
    std::sort(tasks, tasks + count, [](const Task &left, const Task &right) { return left.ns > right.ns; });
    running_ = tasks;
    parallel_.For(count, [](void *run, size_t i) { static_cast<Run *>(run)->RunTask(static_cast<Run *>(run)->running_[i]); }, this);
  }

  void RunTask(const Task &task) {
    AttendTask attend = task.attend;
    const size_t floats = static_cast<size_t>(AttendFloats(attend.rows * attend.group, attend.dim));
    attend.scratch = static_cast<float *>(ScratchOfThread().attend.Reserve(floats * sizeof(float)));
    if (attend.scratch == nullptr) is_out_of_memory_ = true;
    else attend_(attend);
  }

  static int64_t Cuts(const Task &tile, double task_ns) {
    const int64_t blocks = tile.attend.end_block - tile.attend.first_block;
    return std::clamp<int64_t>(static_cast<int64_t>(tile.ns / task_ns), 1, blocks);
  }

  // Tiles longer than task_ns in several tasks, whose parts are merged when all are done.
  bool RunCut(double task_ns) {
    size_t count = 0, floats = 0;
    for (size_t i = 0; i < tile_count_; i += 1) {
      const int64_t cuts = Cuts(tiles_[i], task_ns);
      count += static_cast<size_t>(cuts);
      if (cuts > 1) floats += static_cast<size_t>(PartsOf(tiles_[i].attend));
    }
    Task *const cut = static_cast<Task *>(scratch_.cut_tasks.Reserve(count * sizeof(Task)));
    float *parts = static_cast<float *>(scratch_.parts.Reserve(floats * sizeof(float)));
    if (cut == nullptr || (parts == nullptr && floats > 0)) return false;
    Task *next = cut;
    for (size_t i = 0; i < tile_count_; i += 1) {
      const int64_t cuts = Cuts(tiles_[i], task_ns);
      AttendTask &whole = tiles_[i].attend;
      if (cuts > 1) {
        whole.parts = parts;
        parts += PartsOf(whole);
      }
      next = CutInto(next, tiles_[i], cuts);
    }
    RunAll(cut, count);
    for (size_t i = 0; i < tile_count_ && !is_out_of_memory_; i += 1) {
      AttendTask &whole = tiles_[i].attend;
      if (whole.parts == nullptr) continue;
      whole.scratch = static_cast<float *>(scratch_.attend.Reserve(static_cast<size_t>(PartFloats(call_.dim)) * sizeof(float)));
      if (whole.scratch == nullptr) return false;
      merge_(whole);
    }
    return true;
  }

  static int64_t PartsOf(const AttendTask &task) {
    return (task.end_block - task.first_block) * task.rows * task.group * PartFloats(task.dim);
  }

  static Task *CutInto(Task *to, const Task &tile, int64_t cuts) {
    const AttendTask &whole = tile.attend;
    const int64_t blocks = whole.end_block - whole.first_block;
    for (int64_t cut = 0; cut < cuts; cut += 1) {
      const int64_t begin = blocks * cut / cuts;
      *to = {whole, tile.ns / static_cast<double>(cuts)};
      to->attend.first_block = whole.first_block + begin;
      to->attend.end_block = whole.first_block + blocks * (cut + 1) / cuts;
      if (whole.parts != nullptr) to->attend.parts = whole.parts + begin * whole.rows * whole.group * PartFloats(whole.dim);
      to += 1;
    }
    return to;
  }

  const AttentionCall &call_;
  void (*const store_)(const StoreTask &);
  void (*const attend_)(const AttendTask &);
  void (*const merge_)(const AttendTask &);
  const int threads_;
  Parallel &parallel_;
  ThreadScratch &scratch_;
  const int64_t group_;
  const int64_t tile_rows_;
  float *queries_ = nullptr;
  Task *tiles_ = nullptr;
  size_t tile_count_ = 0;
  const Task *running_ = nullptr;
  // Of any thread.
  std::atomic<bool> is_out_of_memory_{false};
};

}  // namespace

const char *RunAttention(const AttentionCall &call, const AttentionKernels &kernels, int threads, Parallel &parallel) {
  return Run(call, kernels, threads, parallel)();
}

}  // namespace quiver::host
