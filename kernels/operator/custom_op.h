// What every operator here answers alike when ONNX Runtime asks it about itself.
#pragma once

#include <cstdlib>

#include "ort_abi.h"

namespace quiver {

// Callbacks of an operator with one output and no variadic inputs, which computes nothing in place. Name, inputs, output type and kernel are the
// operator's own to set, and whatever else differs. `Operator` begins with its callbacks and has a `backend` with a `provider`.
template <typename Operator>
ort::CustomOp CommonCallbacks() {
  using ort::CustomOp;
  CustomOp op = {};
  op.version = ort::kApiVersion;
  op.GetExecutionProviderType = [](const CustomOp *self) { return reinterpret_cast<const Operator *>(self)->backend->provider; };
  op.GetOutputTypeCount = [](const CustomOp *) { return size_t{1}; };
  op.GetInputCharacteristic = [](const CustomOp *, size_t) { return ort::kRequired; };
  op.GetOutputCharacteristic = [](const CustomOp *, size_t) { return ort::kRequired; };
  op.GetInputMemoryType = [](const CustomOp *, size_t) { return ort::kDefaultMemory; };
  op.GetVariadicInputMinArity = [](const CustomOp *) { return 1; };
  op.GetVariadicInputHomogeneity = [](const CustomOp *) { return 0; };
  op.GetVariadicOutputMinArity = [](const CustomOp *) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const CustomOp *) { return 1; };
  op.GetStartVersion = [](const CustomOp *) { return 1; };
  op.GetEndVersion = [](const CustomOp *) { return 0x7fffffff; };
  op.GetMayInplace = [](int **, int **) { return size_t{0}; };
  op.ReleaseMayInplace = [](int *, int *) {};
  op.GetAliasMap = [](int **, int **) { return size_t{0}; };
  op.ReleaseAliasMap = [](int *, int *) {};
  return op;
}

// Ends a kernel that was made in memory of malloc, with its backend's state.
template <typename Kernel>
void QUIVER_ORT_CALL DestroyKernel(void *opaque) {
  const Kernel *kernel = static_cast<const Kernel *>(opaque);
  kernel->backend->dispose(kernel->state);
  std::free(opaque);
}

}  // namespace quiver
