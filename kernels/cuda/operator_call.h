// A checked call of quiver::Lora (operator/lora_call.h) in the words of the CUDA kernels (lora.h).
#pragma once

#include "lora.h"
#include "operator/lora_call.h"

namespace quiver {

inline quiver_lora_call CudaCall(const LoraCall &call, void *y, const void *x) {
  quiver_lora_call made{};
  made.type = call.weights == Element::kF16 ? QUIVER_LORA_HALF : QUIVER_LORA_BFLOAT16;
  made.pair_count = call.pair_count;
  made.rows = call.rows;
  made.in = call.in;
  made.columns = call.columns;
  made.slots = call.slots;
  made.max_rank = call.max_rank;
  made.y = y;
  made.x = x;
  made.slot = call.slot;
  made.scale = call.scale;
  for (int at = 0; at < call.pair_count; at++) {
    const LoraPair &pair = call.pairs[at];
    made.pairs[at] = {pair.a, pair.b, pair.rank, pair.out, pair.column};
  }
  return made;
}

}  // namespace quiver
