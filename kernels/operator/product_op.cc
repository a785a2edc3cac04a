#include "product_op.h"

#include <cstdlib>
#include <new>

#include "custom_op.h"
#include "tensor_view.h"

namespace quiver {
namespace {

using ort::Api;
using ort::CustomOp;
using ort::Status;

constexpr size_t kX = 0, kWeights = 1, kInputs = 2;
constexpr char kName[] = "quiver::Product8";

struct Kernel {
  const ProductBackend *backend;
  Api api;
  int64_t in;
  int64_t out;
  void *state;
};

// Everything that can be known before a kernel runs.
Status *ReadCall(const Kernel &kernel, const ort::KernelContext *context, ProductCall *call) {
  const OperatorFront front(kernel.api, kName);
  TensorView x, weights;
  if (Status *status = front.ReadInput(context, kX, &x)) return status;
  if (Status *status = front.ReadInput(context, kWeights, &weights)) return status;
  if (x.rank != 2) return front.Refuse("x has %zu dimensions, not 2", x.rank);
  if (x.dims[1] != kernel.in)
    return front.Refuse("x has %lld features, the weights are for %lld", (long long)x.dims[1], (long long)kernel.in);
  if (weights.rank != 3) return front.Refuse("weights have %zu dimensions, not 3", weights.rank);
  const int64_t wanted[] = {PanelCount(kernel.out), UnitCount(kernel.in), kUnitBytes};
  for (int i = 0; i < 3; i += 1) {
    if (weights.dims[i] == wanted[i]) continue;
    return front.Refuse("weights are [%lld, %lld, %lld], not [%lld, %lld, %lld]", (long long)weights.dims[0],
                        (long long)weights.dims[1], (long long)weights.dims[2], (long long)wanted[0], (long long)wanted[1],
                        (long long)wanted[2]);
  }
  call->rows = x.dims[0];
  call->in = kernel.in;
  call->out = kernel.out;
  call->x = static_cast<const float *>(x.bytes);
  call->weights = static_cast<const uint8_t *>(weights.bytes);
  return nullptr;
}

Status *QUIVER_ORT_CALL Compute(void *opaque, ort::KernelContext *context) {
  const Kernel &kernel = *static_cast<const Kernel *>(opaque);
  const Api &api = kernel.api;
  ProductCall call;
  if (Status *status = ReadCall(kernel, context, &call)) return status;
  ort::Value *output = nullptr;
  const int64_t dims[] = {call.rows, call.out};
  if (Status *status = api.GetOutput(context, 0, dims, 2, &output)) return status;
  void *y = nullptr;
  if (Status *status = api.GetTensorMutableData(output, &y)) return status;
  call.y = static_cast<float *>(y);
  const char *problem = kernel.backend->run(call, api, context, kernel.state);
  return problem == nullptr ? nullptr : api.CreateStatus(ort::kFail, problem);
}

Status *QUIVER_ORT_CALL Create(const CustomOp *op, const void *table, const ort::KernelInfo *info, void **out) {
  const ProductBackend *backend = reinterpret_cast<const ProductOperator *>(op)->backend;
  const Api api(table);
  int64_t in = 0, features = 0;
  if (Status *status = api.KernelInfoGetInt(info, "in", &in)) return status;
  if (Status *status = api.KernelInfoGetInt(info, "out", &features)) return status;
  const OperatorFront front(api, kName);
  if (in <= 0 || features <= 0) return front.Refuse("in is %lld and out is %lld", (long long)in, (long long)features);
  void *state = nullptr;
  if (const char *problem = backend->prepare(&state)) return api.CreateStatus(ort::kFail, problem);
  void *memory = std::malloc(sizeof(Kernel));
  if (memory == nullptr) {
    backend->dispose(state);
    return api.CreateStatus(ort::kFail, "quiver::Product8: out of memory");
  }
  *out = new (memory) Kernel{backend, api, in, features, state};
  return nullptr;
}

}  // namespace

ProductOperator MakeProductOperator(const ProductBackend &backend) {
  ProductOperator made = {};
  made.backend = &backend;
  CustomOp &op = made.callbacks;
  op = CommonCallbacks<ProductOperator>();
  op.GetName = [](const CustomOp *) { return "Product8"; };
  op.GetInputType = [](const CustomOp *, size_t index) { return index == kX ? ort::kFloat : ort::kUint8; };
  op.GetInputTypeCount = [](const CustomOp *) { return kInputs; };
  op.GetOutputType = [](const CustomOp *, size_t) { return ort::kFloat; };
  op.KernelDestroy = DestroyKernel<Kernel>;
  op.CreateKernelV2 = Create;
  op.KernelComputeV2 = Compute;
  return made;
}

}  // namespace quiver
