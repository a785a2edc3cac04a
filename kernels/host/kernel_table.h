#pragma once

#include "attention_store.h"
#include "attention_tiles.h"
#include "rows_tiles.h"
#include "tiles.h"

namespace quiver::host {

// All kernels of an instruction set.
template <class I>
constexpr HostKernels KernelsOf(const char *name) {
  return {name,
          {Shrink<I, float>, Shrink<I, F16>, Shrink<I, BF16>},
          {Expand<I, float>, Expand<I, F16>, Expand<I, BF16>},
          {{StoreRows<I, float>, StoreRows<I, F16>, nullptr}, {Attend<I, float>, Attend<I, F16>, nullptr}, MergeParts<I>},
          {Norm<I>, Gate<I>}};
}

}  // namespace quiver::host
