// The front of the operators that take each row by itself: what ONNX Runtime sees, and every check before a kernel is called.
//
//   quiver::AddNorm  inputs     0 residual [rows, features]  1 added [rows, features]  2 weight [features]        float32
//                    attribute  epsilon
//                    outputs    0 normed [rows, features]    1 sum [rows, features]                               float32
//   quiver::Gate     input      0 x [rows, 2 · features]: gate, then up                                           float32
//                    output     0 y [rows, features]                                                              float32
#pragma once

#include "ort_abi.h"
#include "rows_call.h"

namespace quiver {

// One build of both.
struct RowsBackend {
  // Execution provider whose nodes it runs, e.g. "CPUExecutionProvider".
  const char *provider;
  // Once for each node, when the session is made; `state` is handed to every call. nullptr or what is wrong.
  const char *(*prepare)(void **state);
  void (*dispose)(void *state);
  // Compute a call that has been checked.
  void (*normalise)(const NormCall &, const ort::Api &, ort::KernelContext *, void *state);
  void (*gate)(const GateCall &, const ort::Api &, ort::KernelContext *, void *state);
};

// An OrtCustomOp for a build. `ort::CustomOp` comes first: the runtime hands its address back to the callbacks.
struct RowsOperator {
  ort::CustomOp callbacks;
  const RowsBackend *backend;
};

RowsOperator MakeAddNormOperator(const RowsBackend &backend);
RowsOperator MakeGateOperator(const RowsBackend &backend);

}  // namespace quiver
