// libquiver_ops for CPUs: the operators' fronts on the host kernels, as a library that ONNX Runtime loads.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <thread>

#include "../operator/attention_op.h"
#include "../operator/library.h"
#include "../operator/lora_op.h"
#include "../operator/product_op.h"
#include "../operator/rows_op.h"
#include "attention_plan.h"
#include "cpu_features.h"
#include "plan.h"
#include "product_plan.h"
#include "rows_plan.h"
#include "session_threads.h"

namespace quiver {
namespace {

// For tests and for comparing: another instruction set than the newest.
constexpr const char *kInstructionSetVariable = "QUIVER_LORA_ISA";
// The same for products, which know more of them.
constexpr const char *kProductSetVariable = "QUIVER_PRODUCT_ISA";

// What all nodes compute with; chosen when the first session is made.
struct HostState {
  const host::HostKernels *kernels;
  const host::ProductKernels *product;
  int threads;
};

const char *Prepare(void **state) {
  const host::HostKernels *kernels = host::ChooseKernels(std::getenv(kInstructionSetVariable));
  if (kernels == nullptr) return "QUIVER_LORA_ISA names an instruction set that this processor does not have";
  const host::ProductKernels *product = host::ChooseProduct(std::getenv(kProductSetVariable));
  if (product == nullptr) return "QUIVER_PRODUCT_ISA names an instruction set that this processor does not have";
  HostState *made = static_cast<HostState *>(std::malloc(sizeof(HostState)));
  if (made == nullptr) return "Quiver's operators: out of memory";
  const unsigned threads = std::thread::hardware_concurrency();
  *made = {kernels, product, threads == 0 ? 1 : static_cast<int>(threads)};
  *state = made;
  return nullptr;
}

void Dispose(void *state) { std::free(state); }

const char *RunOnHost(const LoraCall &call, const LoraContext &context, void *state) {
  const HostState &host = *static_cast<const HostState *>(state);
  SessionThreads threads(*context.api, context.kernel);
  return host::RunLora(call, *host.kernels, host.threads, threads);
}

const char *AttendOnHost(const AttentionCall &call, const ort::Api &api, ort::KernelContext *context, void *state) {
  const HostState &host = *static_cast<const HostState *>(state);
  SessionThreads threads(api, context);
  return host::RunAttention(call, host.kernels->attention, host.threads, threads);
}

const char *MultiplyOnHost(const ProductCall &call, const ort::Api &api, ort::KernelContext *context, void *state) {
  const HostState &host = *static_cast<const HostState *>(state);
  SessionThreads threads(api, context);
  return host::RunProduct(call, *host.product, host.threads, threads);
}

void NormaliseOnHost(const NormCall &call, const ort::Api &api, ort::KernelContext *context, void *state) {
  const HostState &host = *static_cast<const HostState *>(state);
  SessionThreads threads(api, context);
  host::RunNorm(call, host.kernels->rows, host.threads, threads);
}

void GateOnHost(const GateCall &call, const ort::Api &api, ort::KernelContext *context, void *state) {
  const HostState &host = *static_cast<const HostState *>(state);
  SessionThreads threads(api, context);
  host::RunGate(call, host.kernels->rows, host.threads, threads);
}

// Calls in which the runtime did not compute in place.
std::atomic<int64_t> copied_calls{0};

const char *Copy(void *to, const void *from, size_t bytes, const LoraContext &) {
  copied_calls.fetch_add(1, std::memory_order_relaxed);
  std::memcpy(to, from, bytes);
  return nullptr;
}

constexpr LoraBackend kHost = {"CPUExecutionProvider", Element::kF32, {true, true, true}, true, Prepare, Dispose,
                               RunOnHost, Copy};
constexpr AttentionBackend kHostAttention = {"CPUExecutionProvider", Prepare, Dispose, AttendOnHost};
constexpr ProductBackend kHostProduct = {"CPUExecutionProvider", Prepare, Dispose, MultiplyOnHost};
constexpr RowsBackend kHostRows = {"CPUExecutionProvider", Prepare, Dispose, NormaliseOnHost, GateOnHost};

}  // namespace
}  // namespace quiver

QUIVER_EXPORT const char *QuiverOpsName() {
  const quiver::host::HostKernels *kernels = quiver::host::ChooseKernels(std::getenv(quiver::kInstructionSetVariable));
  if (kernels == nullptr) return "host-none";
  static thread_local char name[32];
  std::strcpy(name, "host-");
  std::strncat(name, kernels->name, sizeof name - 6);
  return name;
}

// What computes products with 8-bit weights, e.g. "amx"; "none" where QUIVER_PRODUCT_ISA names what this processor does not have.
QUIVER_EXPORT const char *QuiverOpsProductSet() {
  const quiver::host::ProductKernels *kernels = quiver::host::ChooseProduct(std::getenv(quiver::kProductSetVariable));
  return kernels == nullptr ? "none" : kernels->name;
}

// How many calls so far had to copy y first, which a graph with known shapes never needs; for tests.
QUIVER_EXPORT int64_t QuiverOpsCopiedCalls() { return quiver::copied_calls.load(std::memory_order_relaxed); }

QUIVER_EXPORT quiver::ort::Status *QUIVER_ORT_CALL RegisterCustomOps(quiver::ort::SessionOptions *options,
                                                                     const quiver::ort::ApiBase *base) {
  static const quiver::LoraOperator lora = quiver::MakeLoraOperator(quiver::kHost, *base);
  static const quiver::AttentionOperator attention = quiver::MakeAttentionOperator(quiver::kHostAttention);
  static const quiver::ProductOperator product = quiver::MakeProductOperator(quiver::kHostProduct);
  static const quiver::RowsOperator norm = quiver::MakeAddNormOperator(quiver::kHostRows);
  static const quiver::RowsOperator gate = quiver::MakeGateOperator(quiver::kHostRows);
  static const quiver::ort::CustomOp *const operators[] = {&lora.callbacks, &attention.callbacks, &product.callbacks,
                                                           &norm.callbacks, &gate.callbacks};
  return quiver::RegisterOperators(options, base, operators, std::size(operators));
}
