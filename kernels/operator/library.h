// What every build's library exports.
//
//   RegisterCustomOps(options, base)   called by ONNX Runtime: adds the domain `quiver` to a session
//   QuiverOpsInterface()               number of the interface below and of the operator's inputs; the worker compares it
//   QuiverOpsName()                    what computes here, e.g. "host-avx512"
//
// The host build also has QuiverOpsCopiedCalls(), see host/host_library.cc.
#pragma once

#include "lora_op.h"

namespace quiver {

// Grows with every change of the exported functions or of the operator's inputs (packages/worker/src/engine/onnx/ops-library.ts
// has the same number).
constexpr int kOpsInterface = 1;

// Body of a build's RegisterCustomOps.
ort::Status *RegisterLora(ort::SessionOptions *options, const ort::ApiBase *base, const LoraOperator &op);

}  // namespace quiver
