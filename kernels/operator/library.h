// What every build's library exports.
//
//   RegisterCustomOps(options, base)   called by ONNX Runtime: adds the domain `quiver` to a session
//   QuiverOpsInterface()               number of the interface below and of the operators' inputs; the worker compares it
//   QuiverOpsName()                    what computes here, e.g. "host-avx512"
//
// The host build also has QuiverOpsCopiedCalls(), see host/host_library.cc.
#pragma once

#include <cstddef>

#include "ort_abi.h"

namespace quiver {

// Grows with every change of the exported functions or of an operator's inputs (packages/worker/src/engine/onnx/operator-library.ts
// has the same number).
constexpr int kOpsInterface = 3;

// Body of a build's RegisterCustomOps: puts all its operators into the domain. They live as long as the library.
ort::Status *RegisterOperators(ort::SessionOptions *options, const ort::ApiBase *base, const ort::CustomOp *const *operators,
                               size_t count);

}  // namespace quiver
