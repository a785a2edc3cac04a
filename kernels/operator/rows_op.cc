#include "rows_op.h"

#include <cstdlib>
#include <new>

#include "custom_op.h"
#include "tensor_view.h"

namespace quiver {
namespace {

using ort::Api;
using ort::CustomOp;
using ort::Status;

struct Kernel {
  const RowsBackend *backend;
  Api api;
  // Of quiver::AddNorm.
  float epsilon;
  void *state;
};

Status *ReadMatrix(const OperatorFront &front, const ort::KernelContext *context, size_t index, const char *name, TensorView *view) {
  if (Status *status = front.ReadInput(context, index, view)) return status;
  return view->rank == 2 ? nullptr : front.Refuse("%s has %zu dimensions, not 2", name, view->rank);
}

Status *MakeOutput(const Api &api, ort::KernelContext *context, size_t index, int64_t rows, int64_t features, float **to) {
  ort::Value *output = nullptr;
  const int64_t dims[] = {rows, features};
  if (Status *status = api.GetOutput(context, index, dims, 2, &output)) return status;
  void *bytes = nullptr;
  Status *status = api.GetTensorMutableData(output, &bytes);
  *to = static_cast<float *>(bytes);
  return status;
}

struct AddNorm {
  static constexpr char kName[] = "quiver::AddNorm";
  static constexpr size_t kInputs = 3, kOutputs = 2;

  static Status *ReadAttributes(const Api &api, const ort::KernelInfo *info, Kernel *kernel) {
    if (Status *status = api.KernelInfoGetFloat(info, "epsilon", &kernel->epsilon)) return status;
    if (kernel->epsilon >= 0) return nullptr;
    return OperatorFront(api, kName).Refuse("epsilon is %g", static_cast<double>(kernel->epsilon));
  }

  static Status *Compute(const Kernel &kernel, ort::KernelContext *context) {
    const OperatorFront front(kernel.api, kName);
    TensorView residual, added, weight;
    if (Status *status = ReadMatrix(front, context, 0, "residual", &residual)) return status;
    if (Status *status = ReadMatrix(front, context, 1, "added", &added)) return status;
    if (Status *status = front.ReadInput(context, 2, &weight)) return status;
    const int64_t rows = residual.dims[0], features = residual.dims[1];
    if (added.dims[0] != rows || added.dims[1] != features)
      return front.Refuse("added is [%lld, %lld], residual [%lld, %lld]", (long long)added.dims[0], (long long)added.dims[1],
                          (long long)rows, (long long)features);
    if (weight.rank != 1 || weight.dims[0] != features)
      return front.Refuse("weight has %zu dimensions, the first of %lld, for rows of %lld", weight.rank, (long long)weight.dims[0],
                          (long long)features);
    NormCall call;
    call.rows = rows;
    call.features = features;
    call.epsilon = kernel.epsilon;
    call.residual = static_cast<const float *>(residual.bytes);
    call.added = static_cast<const float *>(added.bytes);
    call.weight = static_cast<const float *>(weight.bytes);
    if (Status *status = MakeOutput(kernel.api, context, 0, rows, features, &call.normed)) return status;
    if (Status *status = MakeOutput(kernel.api, context, 1, rows, features, &call.sum)) return status;
    kernel.backend->normalise(call, kernel.api, context, kernel.state);
    return nullptr;
  }
};

struct Gate {
  static constexpr char kName[] = "quiver::Gate";
  static constexpr size_t kInputs = 1, kOutputs = 1;

  static Status *ReadAttributes(const Api &, const ort::KernelInfo *, Kernel *) { return nullptr; }

  static Status *Compute(const Kernel &kernel, ort::KernelContext *context) {
    const OperatorFront front(kernel.api, kName);
    TensorView x;
    if (Status *status = ReadMatrix(front, context, 0, "x", &x)) return status;
    if (x.dims[1] % 2 != 0) return front.Refuse("x has %lld features, which are not gate and up", (long long)x.dims[1]);
    GateCall call;
    call.rows = x.dims[0];
    call.features = x.dims[1] / 2;
    call.x = static_cast<const float *>(x.bytes);
    if (Status *status = MakeOutput(kernel.api, context, 0, call.rows, call.features, &call.y)) return status;
    kernel.backend->gate(call, kernel.api, context, kernel.state);
    return nullptr;
  }
};

template <class Op>
Status *QUIVER_ORT_CALL Create(const CustomOp *op, const void *table, const ort::KernelInfo *info, void **out) {
  Kernel kernel = {reinterpret_cast<const RowsOperator *>(op)->backend, Api(table), 0, nullptr};
  if (Status *status = Op::ReadAttributes(kernel.api, info, &kernel)) return status;
  if (const char *problem = kernel.backend->prepare(&kernel.state)) return kernel.api.CreateStatus(ort::kFail, problem);
  void *memory = std::malloc(sizeof(Kernel));
  if (memory == nullptr) {
    kernel.backend->dispose(kernel.state);
    return kernel.api.CreateStatus(ort::kFail, "Quiver's operators: out of memory");
  }
  *out = new (memory) Kernel(kernel);
  return nullptr;
}

template <class Op>
RowsOperator MakeOperator(const RowsBackend &backend) {
  RowsOperator made = {};
  made.backend = &backend;
  CustomOp &op = made.callbacks;
  op = CommonCallbacks<RowsOperator>();
  // What stands behind "quiver::", the domain.
  op.GetName = [](const CustomOp *) -> const char * { return Op::kName + sizeof("quiver::") - 1; };
  op.GetInputType = [](const CustomOp *, size_t) { return ort::kFloat; };
  op.GetInputTypeCount = [](const CustomOp *) { return Op::kInputs; };
  op.GetOutputType = [](const CustomOp *, size_t) { return ort::kFloat; };
  op.GetOutputTypeCount = [](const CustomOp *) { return Op::kOutputs; };
  op.KernelDestroy = DestroyKernel<Kernel>;
  op.CreateKernelV2 = Create<Op>;
  op.KernelComputeV2 = [](void *kernel, ort::KernelContext *context) {
    return Op::Compute(*static_cast<const Kernel *>(kernel), context);
  };
  return made;
}

}  // namespace

RowsOperator MakeAddNormOperator(const RowsBackend &backend) { return MakeOperator<AddNorm>(backend); }
RowsOperator MakeGateOperator(const RowsBackend &backend) { return MakeOperator<Gate>(backend); }

}  // namespace quiver
