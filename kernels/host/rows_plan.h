// How a call that takes each row by itself is spread over threads: the calling one alone, or some rows a task.
#pragma once

#include "../operator/parallel.h"
#include "rows.h"

namespace quiver::host {

// @param threads how many can work at once
void RunNorm(const NormCall &call, const RowKernels &kernels, int threads, Parallel &parallel);
void RunGate(const GateCall &call, const RowKernels &kernels, int threads, Parallel &parallel);

}  // namespace quiver::host
