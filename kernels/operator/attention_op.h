// The front of quiver::Attention: what ONNX Runtime sees, and every check before a kernel is called.
//
//   inputs    0 qkv        [rows, (heads + 2 · kv_heads) · dim]                            float32
//             1 keys       [cache_rows, kv_heads, capacity / 16, dim, 16]                  float32 or float16, written
//             2 values     [cache_rows, kv_heads, capacity, dim]                           as keys, written
//             3 cache_row  [rows]                                                          int32
//             4 position   [rows]                                                          int32
//             5 cos        [positions, dim / 2]                                            float32
//             6 sin        [positions, dim / 2]                                            float32
//             7 q_norm     [dim], may be left out with k_norm                              float32
//             8 k_norm     [dim]                                                           float32
//   attributes heads, kv_heads; window (0: none); epsilon (of the norms)
//   output    0 out        [rows, heads · dim]                                             float32
//
// The cache is written although it is an input: it is the session's caller who owns that memory for ever, each layer's is an input
// of this one node, and nothing else in the graph reads it, so that no order of nodes and no copy can make a difference.
#pragma once

#include "attention_call.h"
#include "ort_abi.h"

namespace quiver {

// One build of the operator.
struct AttentionBackend {
  // Execution provider whose nodes it runs, e.g. "CPUExecutionProvider".
  const char *provider;
  // Once for each node, when the session is made; `state` is handed to every call. nullptr or what is wrong.
  const char *(*prepare)(void **state);
  void (*dispose)(void *state);
  // Computes a call that has been checked. nullptr, or a message that lives as long as the library.
  const char *(*run)(const AttentionCall &, const ort::Api &, ort::KernelContext *, void *state);
};

// An OrtCustomOp for a build. `ort::CustomOp` comes first: the runtime hands its address back to the callbacks.
struct AttentionOperator {
  ort::CustomOp callbacks;
  const AttentionBackend *backend;
};

AttentionOperator MakeAttentionOperator(const AttentionBackend &backend);

// The checks of values that no shape tells: rows of the cache and positions. Writes what is wrong to `message`.
bool CheckAttentionRows(const AttentionCall &call, int64_t positions, char *message, size_t capacity);

}  // namespace quiver
