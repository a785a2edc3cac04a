// The operators that take each row by itself, as one instruction set computes them: rows begin … end of a call.
#pragma once

#include "../operator/rows_call.h"

namespace quiver::host {

struct RowKernels {
  void (*norm)(const NormCall &, int64_t begin, int64_t end);
  void (*gate)(const GateCall &, int64_t begin, int64_t end);
};

}  // namespace quiver::host
