// The part of ONNX Runtime's C interface that an operator needs, declared by hand so that building needs no SDK.
//
// The interface only ever grows at its end: `OrtApiBase::GetApi(20)` answers a table whose first entries have been the same
// functions since 1.0, and OrtCustomOp carries the version that says which of its last members are filled in. A function is
// therefore an index into the table, with the signature given beside it. What cannot be checked by the compiler is checked
// when the library is loaded (operator/library.cc): the table's version, and the version that the runtime says it has.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define QUIVER_EXPORT extern "C" __declspec(dllexport)
#define QUIVER_ORT_CALL __stdcall
#else
#define QUIVER_EXPORT extern "C" __attribute__((visibility("default")))
#define QUIVER_ORT_CALL
#endif

namespace quiver::ort {

// Version of the table and of OrtCustomOp. 20 has every function named below; the newest of them, ParallelFor, came with 17.
constexpr uint32_t kApiVersion = 20;
// Runtimes that were seen to work report 1.<minor> with a minor in this range.
constexpr int kMinMinor = 20;
constexpr int kMaxMinor = 39;

// Opaque to us.
struct Status;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;
struct ShapeInferContext;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum ElementType : int { kUndefined = 0, kFloat = 1, kUint8 = 2, kInt32 = 6, kFloat16 = 10, kBFloat16 = 16 };
enum Characteristic : int { kRequired = 0, kOptional = 1, kVariadic = 2 };
enum MemoryType : int { kCpuInput = -2, kDefaultMemory = 0 };

struct ApiBase {
  const void *(QUIVER_ORT_CALL *GetApi)(uint32_t version);
  const char *(QUIVER_ORT_CALL *GetVersionString)();
};

struct CustomOp {
  uint32_t version;
  void *(QUIVER_ORT_CALL *CreateKernel)(const CustomOp *, const void *api, const KernelInfo *);
  const char *(QUIVER_ORT_CALL *GetName)(const CustomOp *);
  const char *(QUIVER_ORT_CALL *GetExecutionProviderType)(const CustomOp *);
  ElementType(QUIVER_ORT_CALL *GetInputType)(const CustomOp *, size_t);
  size_t(QUIVER_ORT_CALL *GetInputTypeCount)(const CustomOp *);
  ElementType(QUIVER_ORT_CALL *GetOutputType)(const CustomOp *, size_t);
  size_t(QUIVER_ORT_CALL *GetOutputTypeCount)(const CustomOp *);
  void(QUIVER_ORT_CALL *KernelCompute)(void *kernel, KernelContext *);
  void(QUIVER_ORT_CALL *KernelDestroy)(void *kernel);
  Characteristic(QUIVER_ORT_CALL *GetInputCharacteristic)(const CustomOp *, size_t);
  Characteristic(QUIVER_ORT_CALL *GetOutputCharacteristic)(const CustomOp *, size_t);
  MemoryType(QUIVER_ORT_CALL *GetInputMemoryType)(const CustomOp *, size_t);
  int(QUIVER_ORT_CALL *GetVariadicInputMinArity)(const CustomOp *);
  int(QUIVER_ORT_CALL *GetVariadicInputHomogeneity)(const CustomOp *);
  int(QUIVER_ORT_CALL *GetVariadicOutputMinArity)(const CustomOp *);
  int(QUIVER_ORT_CALL *GetVariadicOutputHomogeneity)(const CustomOp *);
  // From version 16 on.
  Status *(QUIVER_ORT_CALL *CreateKernelV2)(const CustomOp *, const void *api, const KernelInfo *, void **kernel);
  Status *(QUIVER_ORT_CALL *KernelComputeV2)(void *kernel, KernelContext *);
  // From version 17 on.
  Status *(QUIVER_ORT_CALL *InferOutputShape)(const CustomOp *, ShapeInferContext *);
  int(QUIVER_ORT_CALL *GetStartVersion)(const CustomOp *);
  int(QUIVER_ORT_CALL *GetEndVersion)(const CustomOp *);
  // From version 18 on.
  size_t(QUIVER_ORT_CALL *GetMayInplace)(int **inputs, int **outputs);
  void(QUIVER_ORT_CALL *ReleaseMayInplace)(int *inputs, int *outputs);
  size_t(QUIVER_ORT_CALL *GetAliasMap)(int **inputs, int **outputs);
  void(QUIVER_ORT_CALL *ReleaseAliasMap)(int *inputs, int *outputs);
};

// The table, called by index.
class Api {
 public:
  Api() = default;
  explicit Api(const void *table) : table_(static_cast<const Function *>(table)) {}

  Status *CreateStatus(ErrorCode code, const char *message) const {
    return At<Status *(QUIVER_ORT_CALL *)(ErrorCode, const char *)>(0)(code, message);
  }
  Status *CreateCustomOpDomain(const char *name, CustomOpDomain **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const char *, CustomOpDomain **)>(26)(name, out);
  }
  Status *CustomOpDomainAdd(CustomOpDomain *domain, const CustomOp *op) const {
    return At<Status *(QUIVER_ORT_CALL *)(CustomOpDomain *, const CustomOp *)>(27)(domain, op);
  }
  Status *AddCustomOpDomain(SessionOptions *options, CustomOpDomain *domain) const {
    return At<Status *(QUIVER_ORT_CALL *)(SessionOptions *, CustomOpDomain *)>(28)(options, domain);
  }
  Status *GetTensorMutableData(Value *value, void **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(Value *, void **)>(51)(value, out);
  }
  Status *GetTensorElementType(const TensorInfo *info, ElementType *out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const TensorInfo *, ElementType *)>(60)(info, out);
  }
  Status *GetDimensionsCount(const TensorInfo *info, size_t *out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const TensorInfo *, size_t *)>(61)(info, out);
  }
  Status *GetDimensions(const TensorInfo *info, int64_t *values, size_t count) const {
    return At<Status *(QUIVER_ORT_CALL *)(const TensorInfo *, int64_t *, size_t)>(62)(info, values, count);
  }
  Status *GetTensorTypeAndShape(const Value *value, TensorInfo **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const Value *, TensorInfo **)>(65)(value, out);
  }
  Status *KernelInfoGetFloat(const KernelInfo *info, const char *name, float *out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const KernelInfo *, const char *, float *)>(85)(info, name, out);
  }
  Status *KernelInfoGetInt(const KernelInfo *info, const char *name, int64_t *out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const KernelInfo *, const char *, int64_t *)>(86)(info, name, out);
  }
  Status *GetInputCount(const KernelContext *context, size_t *out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const KernelContext *, size_t *)>(88)(context, out);
  }
  Status *GetInput(const KernelContext *context, size_t index, const Value **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const KernelContext *, size_t, const Value **)>(90)(context, index, out);
  }
  Status *GetOutput(KernelContext *context, size_t index, const int64_t *dims, size_t count, Value **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(KernelContext *, size_t, const int64_t *, size_t, Value **)>(91)(context, index, dims,
                                                                                                          count, out);
  }
  void ReleaseStatus(Status *status) const { At<void(QUIVER_ORT_CALL *)(Status *)>(93)(status); }
  void ReleaseTensorInfo(TensorInfo *info) const { At<void(QUIVER_ORT_CALL *)(TensorInfo *)>(99)(info); }
  // The stream that a device's execution provider computes on.
  Status *GetGpuComputeStream(const KernelContext *context, void **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const KernelContext *, void **)>(193)(context, out);
  }
  // The shape is the context's own: not to be released.
  Status *ShapeInferGetInput(ShapeInferContext *context, size_t index, TensorInfo **out) const {
    return At<Status *(QUIVER_ORT_CALL *)(const ShapeInferContext *, size_t, TensorInfo **)>(268)(context, index, out);
  }
  Status *ShapeInferSetOutput(ShapeInferContext *context, size_t index, const TensorInfo *shape) const {
    return At<Status *(QUIVER_ORT_CALL *)(const ShapeInferContext *, size_t, const TensorInfo *)>(270)(context, index, shape);
  }
  // Calls `body(data, 0 … total−1)` on the session's threads, this one included, each taking the next index when it is free
  // (`batches` 0); returns when all are done.
  Status *ParallelFor(const KernelContext *context, void (*body)(void *, size_t), size_t total, size_t batches,
                      void *data) const {
    return At<Status *(QUIVER_ORT_CALL *)(const KernelContext *, void (*)(void *, size_t), size_t, size_t, void *)>(274)(
        context, body, total, batches, data);
  }

 private:
  using Function = void (*)();
  template <class Signature>
  Signature At(size_t index) const {
    return reinterpret_cast<Signature>(table_[index]);
  }
  const Function *table_ = nullptr;
};

}  // namespace quiver::ort
