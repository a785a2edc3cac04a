// The front of quiver::Product8: what ONNX Runtime sees, and every check before a kernel is called.
//
//   inputs     0 x        [rows, in]                          float32
//              1 weights  [⌈out / 16⌉, ⌈in / 64⌉, 1088]       uint8, as in product_call.h
//   attributes in, out
//   output     0 y        [rows, out]                         float32
//
// Weights are used where they lie, so that a session that maps its file holds no copy of them.
#pragma once

#include "ort_abi.h"
#include "product_call.h"

namespace quiver {

// One build of the operator.
struct ProductBackend {
  // Execution provider whose nodes it runs, e.g. "CPUExecutionProvider".
  const char *provider;
  // Once for each node, when the session is made; `state` is handed to every call. nullptr or what is wrong.
  const char *(*prepare)(void **state);
  void (*dispose)(void *state);
  // Computes a call that has been checked. nullptr, or a message that lives as long as the library: then y is not to be used.
  const char *(*run)(const ProductCall &, const ort::Api &, ort::KernelContext *, void *state);
};

// An OrtCustomOp for a build. `ort::CustomOp` comes first: the runtime hands its address back to the callbacks.
struct ProductOperator {
  ort::CustomOp callbacks;
  const ProductBackend *backend;
};

ProductOperator MakeProductOperator(const ProductBackend &backend);

}  // namespace quiver
