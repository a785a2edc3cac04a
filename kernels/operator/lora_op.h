// The front of quiver::Lora that all builds share: what ONNX Runtime sees, and every check before a kernel is called.
//
//   inputs    0 y      [rows, Σout]       the build's activation type; given back, in place where the runtime allows it
//             1 x      [rows, in]         the same type
//             2 slot   [rows]             int32, −1: the base model, the row is left as it is
//             3 rank   [sites, slots]     int32, rank of each slot's adapter at each site, 0 … max_rank
//             4 scale  [slots]            float32
//             5…       A_0, B_0, A_1, B_1, …   [slots, max_rank, in], [slots, max_rank, out_m]; float16, bfloat16 or float32,
//                                         all of one call the same
//   attribute site     row of `rank` that is the first pair's; the others follow
//   output    0 y      [rows, Σout]
//
// A model's modules are its sites: one table of ranks serves all nodes of a graph. ONNX wants the variadic input last.
#pragma once

#include "lora_call.h"
#include "ort_abi.h"

namespace quiver {

// Where a build gets its threads or its stream from.
struct LoraContext {
  const ort::Api *api;
  ort::KernelContext *kernel;
};

// One build of the operator.
struct LoraBackend {
  // Execution provider whose nodes it runs, e.g. "CPUExecutionProvider".
  const char *provider;
  // Type of x and y.
  Element activation;
  // Types of A and B that it knows, by Element.
  bool weights[kElementCount];
  // Whether `slot` and `rank` can be read here and now. Where they are in a device's memory the kernels themselves must take a
  // slot or a rank out of range for none.
  bool indices_on_host;
  // Once for each node, when the session is made; `state` is handed to every call. nullptr or what is wrong.
  const char *(*prepare)(void **state);
  void (*dispose)(void *state);
  // Computes a call that has been checked. nullptr, or a message that lives as long as the library: then y is not to be used.
  const char *(*run)(const LoraCall &, const LoraContext &, void *state);
  // y where the runtime did not compute in place. nullptr or what is wrong.
  const char *(*copy)(void *to, const void *from, size_t bytes, const LoraContext &);
};

// An OrtCustomOp for a build. `ort::CustomOp` comes first: the runtime hands its address back to the callbacks.
struct LoraOperator {
  ort::CustomOp callbacks;
  const LoraBackend *backend;
  ort::Api api;
};

LoraOperator MakeLoraOperator(const LoraBackend &backend, const ort::ApiBase &base);

// The checks of values that no shape tells: slots and the ranks of the slots that are used. Writes what is wrong to `message`.
bool CheckIndices(const LoraCall &call, char *message, size_t capacity);

}  // namespace quiver
