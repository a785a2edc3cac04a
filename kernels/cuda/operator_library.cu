// quiver::Lora for ONNX Runtime's CUDA execution provider: x, y, A and B in device memory, all of one type, float16 or bfloat16.
//
// A call only adds kernels to the stream that the runtime hands over. The memory that it needs was reserved for that stream
// before (quiver_lora_reserve). The first call of a run, which has site 0, groups the rows by slot; the others use its plan.
//
// Under g++ the same file is for the runtime's CPU provider and the execution shim, for tests.
#include <cstdio>
#include <iterator>

#include "gpu.cuh"
#include "lora_workspace.h"
#include "operator/library.h"
#include "operator/lora_op.h"
#include "operator_call.h"

namespace quiver {
namespace {

#ifdef __CUDACC__
constexpr const char *kProvider = "CUDAExecutionProvider";
constexpr const char *kName = "cuda";
#else
constexpr const char *kProvider = "CPUExecutionProvider";
constexpr const char *kName = "cuda-on-shim";
#endif

// One text for all nodes: they run one after another, and the runtime copies it at once.
char message[256];

const char *StreamOf(const LoraContext &context, void **stream) {
  ort::Status *status = context.api->GetGpuComputeStream(context.kernel, stream);
  if (status == nullptr) return nullptr;
  context.api->ReleaseStatus(status);
  return "quiver::Lora: ONNX Runtime has no stream for it";
}

const char *RunOnDevice(const LoraCall &call, const LoraContext &context, void *) {
  void *stream = nullptr;
  if (const char *problem = StreamOf(context, &stream)) return problem;
  LoraWorkspace *space = FindWorkspace(stream);
  if (space == nullptr) return "quiver::Lora: no memory was reserved for this stream";
  const quiver_lora_call made = CudaCall(call, call.y, call.x);
  const bool is_planned = call.site != 0 && space->planned_slot == call.slot && space->planned_rows == call.rows &&
                          space->planned_slots == call.slots;
  if (!is_planned) {
    space->planned_rows = -1;
    if (quiver_lora_plan(&made, space->plan, space->plan_bytes, stream, message, sizeof message) != QUIVER_OK) return message;
    space->planned_slot = call.slot;
    space->planned_rows = call.rows;
    space->planned_slots = call.slots;
  }
  const int code = quiver_lora_apply(&made, space->plan, space->plan_bytes, space->scratch, space->scratch_bytes, stream, message,
                                     sizeof message);
  return code == QUIVER_OK ? nullptr : message;
}

const char *CopyOnDevice(void *to, const void *from, size_t bytes, const LoraContext &context) {
  void *stream = nullptr;
  if (const char *problem = StreamOf(context, &stream)) return problem;
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream));
  if (error == cudaSuccess) return nullptr;
  snprintf(message, sizeof message, "quiver::Lora: y was not copied: %s (CUDA error %d)", cudaGetErrorString(error),
           static_cast<int>(error));
  return message;
}

const char *Prepare(void **) { return nullptr; }
void Dispose(void *) {}

constexpr LoraBackend kHalf = {kProvider, Element::kF16, {false, true, false}, false, Prepare, Dispose, RunOnDevice, CopyOnDevice};
constexpr LoraBackend kBfloat16 = {kProvider, Element::kBF16, {false, false, true}, false, Prepare, Dispose, RunOnDevice,
                                   CopyOnDevice};

}  // namespace
}  // namespace quiver

QUIVER_EXPORT const char *QuiverOpsName() { return quiver::kName; }

QUIVER_EXPORT quiver::ort::Status *QUIVER_ORT_CALL RegisterCustomOps(quiver::ort::SessionOptions *options,
                                                                     const quiver::ort::ApiBase *base) {
  static const quiver::LoraOperator half_lora = quiver::MakeLoraOperator(quiver::kHalf, *base);
  static const quiver::LoraOperator bfloat16_lora = quiver::MakeLoraOperator(quiver::kBfloat16, *base);
  static const quiver::ort::CustomOp *const operators[] = {&half_lora.callbacks, &bfloat16_lora.callbacks};
  return quiver::RegisterOperators(options, base, operators, std::size(operators));
}
