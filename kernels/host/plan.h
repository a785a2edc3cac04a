// How one call is spread over threads.
//
// Rows are grouped by slot, so that an adapter's weights are read once however many rows use it. Then one of three ways:
//
//   alone      everything on the calling thread, where waking another one would take longer than it saves
//   chunks     each task is one adapter and up to 32 of its rows, from x to y: nothing to wait for in between
//   halves     first tasks of ranks (h = scale · A x), then tasks of columns (y += h B), with all threads waiting in between: for
//              adapters too few or too unequal to keep all threads busy
//
// Which one is a matter of estimated times; the answer is the same but for the order of float additions over ranks beyond 128.
#pragma once

#include "../operator/lora_call.h"
#include "kernels.h"

namespace quiver::host {

// @param threads how many can work at once
// @return nullptr, or what is wrong; y is then partly written
const char *RunLora(const LoraCall &call, const HostKernels &kernels, int threads, Parallel &parallel);

}  // namespace quiver::host
