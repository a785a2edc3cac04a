// How one call of attention is spread over threads.
//
// First all rows write their keys and values (in parallel where they are many). Then tasks: for each sequence and kv head, tiles
// of its rows. Where these are too few or too unequal, as with one long sequence, a tile's blocks of keys are shared out and its
// parts merged in the order of the blocks. No choice made here changes a bit of the result (host/attention.h).
#pragma once

#include "../operator/attention_call.h"
#include "../operator/parallel.h"
#include "attention.h"

namespace quiver::host {

// @param threads how many can work at once
// @return nullptr, or what is wrong; out is then partly written
const char *RunAttention(const AttentionCall &call, const AttentionKernels &kernels, int threads, Parallel &parallel);

}  // namespace quiver::host
