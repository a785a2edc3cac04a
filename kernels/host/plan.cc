#include "plan.h"

#include <algorithm>
#include <cstring>

#include "scratch.h"
#include "task_costs.h"

namespace quiver::host {
namespace {

// What a thread does in a nanosecond, roughly and for a server of 2020 or later: bytes of weights from memory, and products.
// Only choices between ways depend on it.
constexpr double kBytesPerNs = 12;
constexpr double kProductsPerNs = 40;

constexpr const char *kOutOfMemory = "quiver::Lora: out of memory";

// Rows of the batch that use one slot.
struct Group {
  int32_t slot;
  int32_t count;
  const int32_t *rows;
};

struct Chunk {
  int32_t slot;
  int32_t count;
  const int32_t *rows;
  double ns;
};

// A part of one half: ranks begin … end of A, or columns begin … end of B, of one pair, for up to kMostRows rows.
struct Part {
  const LoraPair *pair;
  int32_t slot;
  int32_t count;
  const int32_t *rows;
  // Of these rows: [count, rank of the slot at this pair]
  float *h;
  int64_t begin;
  int64_t end;
};

class Run {
 public:
  Run(const LoraCall &call, const HostKernels &kernels, int threads, Parallel &parallel)
      : call_(call),
        shrink_(kernels.shrink[static_cast<int>(call.weights)]),
        expand_(kernels.expand[static_cast<int>(call.weights)]),
        threads_(threads),
        parallel_(parallel),
        scratch_(ScratchOfThread()) {}

  const char *operator()() {
    if (!GroupRows()) return kOutOfMemory;
    if (group_count_ == 0) return nullptr;
    if (!CutChunks()) return kOutOfMemory;
    double total = 0, longest = 0;
    for (int i = 0; i < chunk_count_; i += 1) {
      total += chunks_[i].ns;
      longest = std::max(longest, chunks_[i].ns);
    }
    const double shared = total / threads_;
    const bool is_alone = threads_ == 1 || total < shared + kWakeNs;
    if (is_alone) {
      for (int i = 0; i < chunk_count_; i += 1) RunChunk(chunks_[i]);
      return nullptr;
    }
    if (std::max(shared, longest) <= shared + kWakeNs) {
      parallel_.For(chunk_count_, [](void *run, size_t i) { static_cast<Run *>(run)->RunChunk(i); }, this);
      return nullptr;
    }
    return RunHalves(total);
  }

 private:
  int64_t WeightBytes() const { return ElementBytes(call_.weights); }

  const char *SlotWeights(const void *pool, int32_t slot, int64_t rank, int64_t features) const {
    return static_cast<const char *>(pool) + (slot * call_.max_rank + rank) * features * WeightBytes();
  }

  double Nanoseconds(int64_t weights, int64_t rows) const {
    return static_cast<double>(weights * WeightBytes()) / kBytesPerNs + static_cast<double>(weights * rows) / kProductsPerNs;
  }

  // Counting sort of the rows with an adapter; rows of a slot whose adapter leaves all these modules out are dropped.
  bool GroupRows() {
    const size_t rows = static_cast<size_t>(call_.rows), slots = static_cast<size_t>(call_.slots);
    const size_t bytes = rows * (sizeof(Group) + sizeof(int32_t)) + (slots + 1) * sizeof(int32_t);
    char *memory = static_cast<char *>(scratch_.groups.Reserve(bytes));
    if (memory == nullptr) return false;
    groups_ = reinterpret_cast<Group *>(memory);
    int32_t *const sorted = reinterpret_cast<int32_t *>(memory + rows * sizeof(Group));
    int32_t *const ends = sorted + rows;
    std::memset(ends, 0, (slots + 1) * sizeof(int32_t));
    for (size_t row = 0; row < rows; row += 1) {
      if (call_.slot[row] >= 0) ends[call_.slot[row] + 1] += 1;
    }
    for (size_t slot = 0; slot < slots; slot += 1) {
      const int32_t count = ends[slot + 1];
      if (count > 0 && HasRank(static_cast<int32_t>(slot))) {
        groups_[group_count_] = {static_cast<int32_t>(slot), count, sorted + ends[slot]};
        group_count_ += 1;
      }
      ends[slot + 1] += ends[slot];
    }
    for (size_t row = 0; row < rows; row += 1) {
      const int32_t slot = call_.slot[row];
      if (slot >= 0) {
        sorted[ends[slot]] = static_cast<int32_t>(row);
        ends[slot] += 1;
      }
    }
    return true;
  }

  bool HasRank(int32_t slot) const {
    for (int i = 0; i < call_.pair_count; i += 1) {
      if (call_.pairs[i].rank[slot] > 0) return true;
    }
    return false;
  }

  int64_t WeightsOf(int32_t slot) const {
    int64_t weights = 0;
    for (int i = 0; i < call_.pair_count; i += 1) weights += call_.pairs[i].rank[slot] * (call_.in + call_.pairs[i].out);
    return weights;
  }

  static int Pieces(int32_t rows) { return (rows + kMostRows - 1) / kMostRows; }

  // Groups in pieces of at most kMostRows rows, the longest first: who takes the last one then ends soon.
  bool CutChunks() {
    int most = 0;
    for (int i = 0; i < group_count_; i += 1) most += Pieces(groups_[i].count);
    chunks_ = static_cast<Chunk *>(scratch_.tasks.Reserve(static_cast<size_t>(most) * sizeof(Chunk)));
    if (chunks_ == nullptr) return false;
    for (int i = 0; i < group_count_; i += 1) {
      const Group &group = groups_[i];
      const int pieces = Pieces(group.count);
      for (int piece = 0; piece < pieces; piece += 1) {
        const int32_t begin = static_cast<int32_t>(int64_t{group.count} * piece / pieces);
        const int32_t end = static_cast<int32_t>(int64_t{group.count} * (piece + 1) / pieces);
        chunks_[chunk_count_] = {group.slot, end - begin, group.rows + begin, Nanoseconds(WeightsOf(group.slot), end - begin)};
        chunk_count_ += 1;
      }
    }
    std::sort(chunks_, chunks_ + chunk_count_, [](const Chunk &left, const Chunk &right) { return left.ns > right.ns; });
    return true;
  }

  void RunChunk(size_t index) const { RunChunk(chunks_[index]); }

  void RunChunk(const Chunk &chunk) const {
    alignas(64) float h[kMostRows * kMostRanks];
    for (int i = 0; i < call_.pair_count; i += 1) {
      const LoraPair &pair = call_.pairs[i];
      const int32_t rank = pair.rank[chunk.slot];
      for (int32_t first = 0; first < rank; first += kMostRanks) {
        const int ranks = std::min(kMostRanks, rank - first);
        shrink_(ShrinkOf(pair, chunk.slot, first, ranks, chunk.rows, chunk.count, h, ranks));
        expand_(ExpandOf(pair, chunk.slot, first, ranks, chunk.rows, chunk.count, h, ranks, 0, pair.out));
      }
    }
  }

  ShrinkTask ShrinkOf(const LoraPair &pair, int32_t slot, int64_t first, int ranks, const int32_t *rows, int count, float *h,
                      int h_stride) const {
    return {static_cast<const float *>(call_.x), call_.in, rows, count, SlotWeights(pair.a, slot, first, call_.in), ranks,
            call_.scale[slot], h, h_stride};
  }

  ExpandTask ExpandOf(const LoraPair &pair, int32_t slot, int64_t first, int ranks, const int32_t *rows, int count,
                      const float *h, int h_stride, int64_t begin, int64_t end) const {
    return {static_cast<float *>(call_.y) + pair.column, call_.columns, rows, count,
            SlotWeights(pair.b, slot, first, pair.out), pair.out, begin, end, ranks, h, h_stride};
  }

  const char *RunHalves(double total_ns) {
    const double task_ns = std::max(kSmallestTaskNs, total_ns / (2 * threads_ * kTasksPerThread));
    size_t floats = 0, shrinks = 0, expands = 0;
    ForPieces([&](const LoraPair &pair, int32_t, int32_t count, const int32_t *, int32_t rank) {
      floats += static_cast<size_t>(count) * static_cast<size_t>(rank);
      shrinks += static_cast<size_t>(Cuts(rank, call_.in, count, 4, task_ns));
      expands += static_cast<size_t>(Cuts(pair.out, rank, count, kColumnUnit, task_ns));
    });
    // chunks_ lies in `tasks` too and is not needed any more.
    Part *const parts = static_cast<Part *>(scratch_.tasks.Reserve((shrinks + expands) * sizeof(Part)));
    float *h = static_cast<float *>(scratch_.shrunk.Reserve(floats * sizeof(float)));
    if (parts == nullptr || h == nullptr) return kOutOfMemory;
    shrinks_ = parts;
    expands_ = parts + shrinks;
    Part *shrink = shrinks_, *expand = expands_;
    ForPieces([&](const LoraPair &pair, int32_t slot, int32_t count, const int32_t *rows, int32_t rank) {
      const Part whole = {&pair, slot, count, rows, h, 0, 0};
      shrink = CutInto(shrink, whole, rank, 4, Cuts(rank, call_.in, count, 4, task_ns));
      expand = CutInto(expand, whole, pair.out, kColumnUnit, Cuts(pair.out, rank, count, kColumnUnit, task_ns));
      h += count * rank;
    });
    parallel_.For(shrinks, [](void *run, size_t i) { static_cast<Run *>(run)->RunShrink(i); }, this);
    parallel_.For(expands, [](void *run, size_t i) { static_cast<Run *>(run)->RunExpand(i); }, this);
    return nullptr;
  }

  template <class Body>
  void ForPieces(const Body &body) const {
    for (int i = 0; i < group_count_; i += 1) {
      const Group &group = groups_[i];
      const int pieces = Pieces(group.count);
      for (int p = 0; p < call_.pair_count; p += 1) {
        const int32_t rank = call_.pairs[p].rank[group.slot];
        if (rank == 0) continue;
        for (int piece = 0; piece < pieces; piece += 1) {
          const int32_t begin = static_cast<int32_t>(int64_t{group.count} * piece / pieces);
          const int32_t end = static_cast<int32_t>(int64_t{group.count} * (piece + 1) / pieces);
          body(call_.pairs[p], group.slot, end - begin, group.rows + begin, rank);
        }
      }
    }
  }

  // Into how many tasks `length` ranks or columns are cut, each of `weights` elements, at multiples of `unit`.
  int64_t Cuts(int64_t length, int64_t weights, int32_t rows, int64_t unit, double task_ns) const {
    const int64_t units = (length + unit - 1) / unit;
    const int64_t wanted = static_cast<int64_t>(Nanoseconds(length * weights, rows) / task_ns);
    return std::clamp<int64_t>(wanted, 1, units);
  }

  static Part *CutInto(Part *to, Part whole, int64_t length, int64_t unit, int64_t cuts) {
    const int64_t units = (length + unit - 1) / unit;
    for (int64_t cut = 0; cut < cuts; cut += 1) {
      whole.begin = units * cut / cuts * unit;
      whole.end = std::min(length, units * (cut + 1) / cuts * unit);
      *to = whole;
      to += 1;
    }
    return to;
  }

  void RunShrink(size_t index) const {
    const Part &part = shrinks_[index];
    const int rank = part.pair->rank[part.slot];
    for (int64_t first = part.begin; first < part.end; first += kMostRanks) {
      const int ranks = static_cast<int>(std::min<int64_t>(kMostRanks, part.end - first));
      shrink_(ShrinkOf(*part.pair, part.slot, first, ranks, part.rows, part.count, part.h + first, rank));
    }
  }

  void RunExpand(size_t index) const {
    const Part &part = expands_[index];
    const int rank = part.pair->rank[part.slot];
    for (int first = 0; first < rank; first += kMostRanks) {
      const int ranks = std::min(kMostRanks, rank - first);
      expand_(ExpandOf(*part.pair, part.slot, first, ranks, part.rows, part.count, part.h + first, rank, part.begin, part.end));
    }
  }

  const LoraCall &call_;
  void (*const shrink_)(const ShrinkTask &);
  void (*const expand_)(const ExpandTask &);
  const int threads_;
  Parallel &parallel_;
  ThreadScratch &scratch_;
  Group *groups_ = nullptr;
  int group_count_ = 0;
  Chunk *chunks_ = nullptr;
  int chunk_count_ = 0;
  Part *shrinks_ = nullptr;
  Part *expands_ = nullptr;
};

}  // namespace

const char *RunLora(const LoraCall &call, const HostKernels &kernels, int threads, Parallel &parallel) {
  return Run(call, kernels, threads, parallel)();
}

}  // namespace quiver::host
