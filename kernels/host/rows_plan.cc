#include "rows_plan.h"

#include <algorithm>

#include "task_costs.h"

namespace quiver::host {
namespace {

// What a thread reads and writes in a nanosecond, roughly: most of it comes from another processor's cache.
constexpr double kBytesPerNs = 8;

template <class Call>
struct Work {
  const Call &call;
  void (*const compute)(const Call &, int64_t begin, int64_t end);
  const int64_t tasks;
};

// @param row_bytes read and written for a row
template <class Call>
void Spread(const Call &call, void (*compute)(const Call &, int64_t, int64_t), int64_t row_bytes, int threads, Parallel &parallel) {
  const double total = static_cast<double>(call.rows * row_bytes) / kBytesPerNs;
  if (threads == 1 || total < total / threads + kWakeNs) return compute(call, 0, call.rows);
  Work<Call> work = {call, compute, std::min<int64_t>(call.rows, threads * kTasksPerThread)};
  parallel.For(
      static_cast<size_t>(work.tasks),
      [](void *data, size_t index) {
        const Work<Call> &own = *static_cast<const Work<Call> *>(data);
        const int64_t task = static_cast<int64_t>(index);
        own.compute(own.call, own.call.rows * task / own.tasks, own.call.rows * (task + 1) / own.tasks);
      },
      &work);
}

}  // namespace

void RunNorm(const NormCall &call, const RowKernels &kernels, int threads, Parallel &parallel) {
  Spread(call, kernels.norm, call.features * 4 * static_cast<int64_t>(sizeof(float)), threads, parallel);
}

void RunGate(const GateCall &call, const RowKernels &kernels, int threads, Parallel &parallel) {
  Spread(call, kernels.gate, call.features * 3 * static_cast<int64_t>(sizeof(float)), threads, parallel);
}

}  // namespace quiver::host
