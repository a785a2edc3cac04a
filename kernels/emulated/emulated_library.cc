// libquiver_ops_emulated, for tests: the operator's front on the CUDA kernels, which the execution shim runs on a CPU.
//
//   y, x        float32 from the graph [rows, columns], [rows, in]; rounded to the weights' type for the launch
//   A, B        float16 or bfloat16, read where they lie: device memory is plain memory here
//   slot, rank  not checked by the front, as where they lie on a device: the kernels take what is out of range for none
//
// Attention, products with 8-bit weights, norms and gates have no CUDA kernels: the host's compute them as a host would: rows of the base model
// are to be the same to the bit. Products are that by every instruction set, the others by one.
//
// A value of y comes back from the launch only where the kernels changed it, so that what they leave alone keeps all its bits.
#include <atomic>
#include <cstring>
#include <iterator>
#include <mutex>
#include <vector>

#include "cuda/operator_call.h"
#include "gpu.cuh"
#include "host/attention_plan.h"
#include "host/kernels.h"
#include "host/product_plan.h"
#include "host/rows_plan.h"
#include "host/session_threads.h"
#include "operator/attention_op.h"
#include "operator/library.h"
#include "operator/lora_op.h"
#include "operator/product_op.h"
#include "operator/rows_op.h"

namespace quiver {
namespace {

constexpr int kLaunchMessageBytes = 256;

// One launch at a time: what the shim remembers of the last error is for the whole process.
std::mutex one_call_at_a_time;
std::atomic<int64_t> run_calls{0};
std::atomic<int64_t> copied_calls{0};

// What cudaMalloc gives: NaN until it is written.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) {
    if (cudaMalloc(&memory_, bytes == 0 ? 1 : bytes) != cudaSuccess) memory_ = nullptr;
  }
  ~DeviceMemory() { cudaFree(memory_); }
  DeviceMemory(const DeviceMemory &) = delete;
  DeviceMemory &operator=(const DeviceMemory &) = delete;

  void *get() const { return memory_; }

 private:
  void *memory_ = nullptr;
};

template <typename T>
void Narrow(const float *from, int64_t count, T *to) {
  for (int64_t at = 0; at < count; at++) to[at] = from_float<T>(from[at]);
}

// The three calls of lora.h as a step makes them. Writes what is wrong to `message`.
int Launch(const quiver_lora_call &call, char *message) {
  size_t plan_bytes = 0, scratch_bytes = 0;
  if (const int code = quiver_lora_sizes(&call, &plan_bytes, &scratch_bytes, message, kLaunchMessageBytes)) return code;
  const DeviceMemory plan(plan_bytes), scratch(scratch_bytes);
  if (const int code = quiver_lora_plan(&call, plan.get(), plan_bytes, nullptr, message, kLaunchMessageBytes)) return code;
  return quiver_lora_apply(&call, plan.get(), plan_bytes, scratch.get(), scratch_bytes, nullptr, message, kLaunchMessageBytes);
}

template <typename T>
const char *RunAs(const LoraCall &call) {
  const int64_t y_count = call.rows * call.columns, x_count = call.rows * call.in;
  const DeviceMemory y_memory(y_count * sizeof(T)), x_memory(x_count * sizeof(T));
  T *y = static_cast<T *>(y_memory.get()), *x = static_cast<T *>(x_memory.get());
  if (y == nullptr || x == nullptr) return "quiver::Lora: out of memory";
  Narrow(static_cast<const float *>(call.y), y_count, y);
  Narrow(static_cast<const float *>(call.x), x_count, x);
  const std::vector<T> before(y, y + y_count);
  static char message[kLaunchMessageBytes];
  if (Launch(CudaCall(call, y, x), message) != QUIVER_OK) return message;
  float *out = static_cast<float *>(call.y);
  for (int64_t at = 0; at < y_count; at++) {
    if (std::memcmp(&y[at], &before[at], sizeof(T)) != 0) out[at] = to_float(y[at]);
  }
  return nullptr;
}

const char *RunOnShim(const LoraCall &call, const LoraContext &, void *) {
  const std::lock_guard<std::mutex> lock(one_call_at_a_time);
  run_calls.fetch_add(1, std::memory_order_relaxed);
  return call.weights == Element::kF16 ? RunAs<half>(call) : RunAs<bfloat16>(call);
}

const char *Prepare(void **) { return nullptr; }
void Dispose(void *) {}

const char *Copy(void *to, const void *from, size_t bytes, const LoraContext &) {
  copied_calls.fetch_add(1, std::memory_order_relaxed);
  std::memcpy(to, from, bytes);
  return nullptr;
}

bool HasAvx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

const host::HostKernels &HostKernelsHere() {
#if defined(__x86_64__)
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (HasAvx2()) return has_avx512 ? *host::Avx512Kernels() : *host::Avx2Kernels();
#elif defined(__aarch64__)
  return *host::NeonKernels();
#endif
  return *host::ScalarKernels();
}

const char *AttendOnHost(const AttentionCall &call, const ort::Api &api, ort::KernelContext *context, void *) {
  SessionThreads threads(api, context);
  return host::RunAttention(call, HostKernelsHere().attention, 1, threads);
}

constexpr AttentionBackend kAttention = {"CPUExecutionProvider", Prepare, Dispose, AttendOnHost};

const char *MultiplyOnHost(const ProductCall &call, const ort::Api &api, ort::KernelContext *context, void *) {
  SessionThreads threads(api, context);
  return host::RunProduct(call, HasAvx2() ? *host::Avx2Product() : *host::ScalarProduct(), 1, threads);
}

constexpr ProductBackend kProduct = {"CPUExecutionProvider", Prepare, Dispose, MultiplyOnHost};

void NormaliseOnHost(const NormCall &call, const ort::Api &api, ort::KernelContext *context, void *) {
  SessionThreads threads(api, context);
  host::RunNorm(call, HostKernelsHere().rows, 1, threads);
}

void GateOnHost(const GateCall &call, const ort::Api &api, ort::KernelContext *context, void *) {
  SessionThreads threads(api, context);
  host::RunGate(call, HostKernelsHere().rows, 1, threads);
}

constexpr RowsBackend kRows = {"CPUExecutionProvider", Prepare, Dispose, NormaliseOnHost, GateOnHost};

constexpr LoraBackend kEmulated = {"CPUExecutionProvider", Element::kF32, {false, true, true}, false, Prepare, Dispose,
                                   RunOnShim, Copy};

}  // namespace
}  // namespace quiver

QUIVER_EXPORT const char *QuiverOpsName() { return "cuda-emulated"; }

// Calls that launched kernels so far, and those whose y had to be copied first; for tests.
QUIVER_EXPORT int64_t QuiverOpsRunCalls() { return quiver::run_calls.load(std::memory_order_relaxed); }
QUIVER_EXPORT int64_t QuiverOpsCopiedCalls() { return quiver::copied_calls.load(std::memory_order_relaxed); }

QUIVER_EXPORT quiver::ort::Status *QUIVER_ORT_CALL RegisterCustomOps(quiver::ort::SessionOptions *options,
                                                                     const quiver::ort::ApiBase *base) {
  static const quiver::LoraOperator lora = quiver::MakeLoraOperator(quiver::kEmulated, *base);
  static const quiver::AttentionOperator attention = quiver::MakeAttentionOperator(quiver::kAttention);
  static const quiver::ProductOperator product = quiver::MakeProductOperator(quiver::kProduct);
  static const quiver::RowsOperator norm = quiver::MakeAddNormOperator(quiver::kRows);
  static const quiver::RowsOperator gate = quiver::MakeGateOperator(quiver::kRows);
  static const quiver::ort::CustomOp *const operators[] = {&lora.callbacks, &attention.callbacks, &product.callbacks,
                                                           &norm.callbacks, &gate.callbacks};
  return quiver::RegisterOperators(options, base, operators, std::size(operators));
}
