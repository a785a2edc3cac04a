#include "attention_op.h"

#include <cstdio>
#include <cstdlib>
#include <new>

#include "custom_op.h"
#include "tensor_view.h"

namespace quiver {
namespace {

using ort::Api;
using ort::CustomOp;
using ort::Status;

constexpr size_t kQkv = 0, kKeys = 1, kValues = 2, kCacheRow = 3, kPosition = 4, kCos = 5, kSin = 6, kQNorm = 7, kKNorm = 8;
constexpr size_t kRequiredInputs = 7, kInputs = 9;
constexpr char kName[] = "quiver::Attention";

struct Kernel {
  const AttentionBackend *backend;
  Api api;
  int64_t heads;
  int64_t kv_heads;
  int64_t window;
  float epsilon;
  void *state;
};

struct Expected {
  const char *name;
  size_t rank;
  // kUndefined: any, looked at elsewhere.
  ort::ElementType type;
};

constexpr Expected kExpected[kInputs] = {
    {"qkv", 2, ort::kFloat},      {"keys", 5, ort::kUndefined}, {"values", 4, ort::kUndefined}, {"cache_row", 1, ort::kInt32},
    {"position", 1, ort::kInt32}, {"cos", 2, ort::kFloat},      {"sin", 2, ort::kFloat},        {"q_norm", 1, ort::kFloat},
    {"k_norm", 1, ort::kFloat}};

Status *ReadInputs(const OperatorFront &front, const ort::KernelContext *context, TensorView *views) {
  for (size_t i = 0; i < kInputs; i += 1) {
    Status *status = i < kRequiredInputs ? front.ReadInput(context, i, &views[i]) : front.ReadOptional(context, i, &views[i]);
    if (status != nullptr) return status;
    const Expected &expected = kExpected[i];
    if (i >= kRequiredInputs && views[i].bytes == nullptr) continue;
    if (views[i].rank != expected.rank)
      return front.Refuse("%s has %zu dimensions, not %zu", expected.name, views[i].rank, expected.rank);
    if (expected.type != ort::kUndefined && views[i].type != expected.type)
      return front.Refuse("%s has element type %d, not %d", expected.name, views[i].type, expected.type);
  }
  return nullptr;
}

Status *ReadCache(const OperatorFront &front, const TensorView &keys, const TensorView &values, AttentionCall *call) {
  if (keys.type != values.type || (keys.type != ort::kFloat && keys.type != ort::kFloat16))
    return front.Refuse("keys and values have element types %d and %d: both must be 1, or both 10", keys.type, values.type);
  call->cache = keys.type == ort::kFloat ? Element::kF32 : Element::kF16;
  call->cache_rows = values.dims[0];
  call->capacity = values.dims[2];
  call->dim = values.dims[3];
  if (call->dim <= 0 || call->dim % 8 != 0 || call->dim > kMostHeadDim)
    return front.Refuse("a head has %lld dimensions: multiples of 8 up to %lld are computed with", (long long)call->dim,
                        (long long)kMostHeadDim);
  if (values.dims[1] != call->kv_heads)
    return front.Refuse("values are of %lld heads, not %lld", (long long)values.dims[1], (long long)call->kv_heads);
  if (call->cache_rows > kMostCacheRows)
    return front.Refuse("a cache has at most %lld rows, not %lld", (long long)kMostCacheRows, (long long)call->cache_rows);
  const int64_t wanted[] = {call->cache_rows, call->kv_heads, call->capacity / kKeyGroup, call->dim, kKeyGroup};
  bool is_same = call->capacity % kKeyGroup == 0;
  for (size_t i = 0; i < 5; i += 1) is_same = is_same && keys.dims[i] == wanted[i];
  if (is_same) return nullptr;
  return front.Refuse("keys are [%lld, %lld, %lld, %lld, %lld] where values are [%lld, %lld, %lld, %lld]", (long long)keys.dims[0],
                      (long long)keys.dims[1], (long long)keys.dims[2], (long long)keys.dims[3], (long long)keys.dims[4],
                      (long long)values.dims[0], (long long)values.dims[1], (long long)values.dims[2], (long long)values.dims[3]);
}

Status *CheckTables(const OperatorFront &front, const TensorView *views, const AttentionCall &call) {
  const TensorView &cos = views[kCos], &sin = views[kSin];
  if (cos.dims[1] != call.dim / 2 || sin.dims[1] != cos.dims[1] || sin.dims[0] != cos.dims[0])
    return front.Refuse("cos is [%lld, %lld] and sin [%lld, %lld] for heads of %lld dimensions", (long long)cos.dims[0],
                        (long long)cos.dims[1], (long long)sin.dims[0], (long long)sin.dims[1], (long long)call.dim);
  if ((call.q_norm == nullptr) != (call.k_norm == nullptr)) return front.Refuse("q_norm and k_norm come together");
  for (size_t i = kQNorm; i <= kKNorm; i += 1) {
    if (views[i].bytes != nullptr && views[i].dims[0] != call.dim)
      return front.Refuse("%s has %lld weights for heads of %lld dimensions", kExpected[i].name, (long long)views[i].dims[0],
                          (long long)call.dim);
  }
  return nullptr;
}

// Everything that can be known before a kernel runs. Nothing has been written when it refuses.
Status *ReadCall(const Kernel &kernel, const ort::KernelContext *context, AttentionCall *call) {
  const OperatorFront front(kernel.api, kName);
  TensorView views[kInputs];
  if (Status *status = ReadInputs(front, context, views)) return status;
  call->heads = kernel.heads;
  call->kv_heads = kernel.kv_heads;
  call->window = kernel.window;
  call->epsilon = kernel.epsilon;
  if (Status *status = ReadCache(front, views[kKeys], views[kValues], call)) return status;
  call->rows = views[kQkv].dims[0];
  const int64_t columns = (call->heads + 2 * call->kv_heads) * call->dim;
  if (views[kQkv].dims[1] != columns)
    return front.Refuse("qkv has %lld columns, %lld heads, %lld kv heads of %lld dimensions have %lld",
                        (long long)views[kQkv].dims[1], (long long)call->heads, (long long)call->kv_heads, (long long)call->dim,
                        (long long)columns);
  if (views[kCacheRow].dims[0] != call->rows || views[kPosition].dims[0] != call->rows)
    return front.Refuse("qkv has %lld rows, cache_row %lld and position %lld", (long long)call->rows,
                        (long long)views[kCacheRow].dims[0], (long long)views[kPosition].dims[0]);
  call->qkv = static_cast<const float *>(views[kQkv].bytes);
  call->keys = views[kKeys].bytes;
  call->values = views[kValues].bytes;
  call->cache_row = static_cast<const int32_t *>(views[kCacheRow].bytes);
  call->position = static_cast<const int32_t *>(views[kPosition].bytes);
  call->cos = static_cast<const float *>(views[kCos].bytes);
  call->sin = static_cast<const float *>(views[kSin].bytes);
  call->q_norm = static_cast<const float *>(views[kQNorm].bytes);
  call->k_norm = static_cast<const float *>(views[kKNorm].bytes);
  if (Status *status = CheckTables(front, views, *call)) return status;
  char message[kMessageBytes];
  if (CheckAttentionRows(*call, views[kCos].dims[0], message, sizeof message)) return nullptr;
  return front.Refuse("%s", message);
}

Status *QUIVER_ORT_CALL Compute(void *opaque, ort::KernelContext *context) {
  const Kernel &kernel = *static_cast<const Kernel *>(opaque);
  AttentionCall call;
  if (Status *status = ReadCall(kernel, context, &call)) return status;
  ort::Value *output = nullptr;
  const int64_t dims[] = {call.rows, call.heads * call.dim};
  if (Status *status = kernel.api.GetOutput(context, 0, dims, 2, &output)) return status;
  void *out = nullptr;
  if (Status *status = kernel.api.GetTensorMutableData(output, &out)) return status;
  call.out = static_cast<float *>(out);
  if (call.rows == 0) return nullptr;
  const char *problem = kernel.backend->run(call, kernel.api, context, kernel.state);
  return problem == nullptr ? nullptr : kernel.api.CreateStatus(ort::kFail, problem);
}

Status *ReadAttributes(const Api &api, const ort::KernelInfo *info, Kernel *kernel) {
  if (Status *status = api.KernelInfoGetInt(info, "heads", &kernel->heads)) return status;
  if (Status *status = api.KernelInfoGetInt(info, "kv_heads", &kernel->kv_heads)) return status;
  if (Status *status = api.KernelInfoGetInt(info, "window", &kernel->window)) return status;
  if (Status *status = api.KernelInfoGetFloat(info, "epsilon", &kernel->epsilon)) return status;
  const bool is_grouped = kernel->kv_heads > 0 && kernel->heads > 0 && kernel->heads % kernel->kv_heads == 0;
  if (is_grouped && kernel->window >= 0) return nullptr;
  return OperatorFront(api, kName).Refuse("%lld heads, %lld kv heads and a window of %lld do not go together",
                                          (long long)kernel->heads, (long long)kernel->kv_heads, (long long)kernel->window);
}

Status *QUIVER_ORT_CALL Create(const CustomOp *op, const void *table, const ort::KernelInfo *info, void **out) {
  Kernel kernel = {reinterpret_cast<const AttentionOperator *>(op)->backend, Api(table), 0, 0, 0, 0, nullptr};
  if (Status *status = ReadAttributes(kernel.api, info, &kernel)) return status;
  if (const char *problem = kernel.backend->prepare(&kernel.state)) return kernel.api.CreateStatus(ort::kFail, problem);
  void *memory = std::malloc(sizeof(Kernel));
  if (memory == nullptr) {
    kernel.backend->dispose(kernel.state);
    return kernel.api.CreateStatus(ort::kFail, "quiver::Attention: out of memory");
  }
  *out = new (memory) Kernel(kernel);
  return nullptr;
}

}  // namespace

bool CheckAttentionRows(const AttentionCall &call, int64_t positions, char *message, size_t capacity) {
  uint64_t seen[kMostCacheRows / 64] = {};
  for (int64_t row = 0; row < call.rows; row += 1) {
    const int32_t own = call.cache_row[row], position = call.position[row];
    if (own < 0 || own >= call.cache_rows) {
      std::snprintf(message, capacity, "row %lld is for row %d of the cache, there are %lld", (long long)row, own,
                    (long long)call.cache_rows);
      return false;
    }
    if (position < 0 || position >= call.capacity || position >= positions) {
      std::snprintf(message, capacity, "row %lld is for position %d, the cache has %lld and the angles are of %lld", (long long)row,
                    position, (long long)call.capacity, (long long)positions);
      return false;
    }
    if (row > 0 && call.cache_row[row - 1] == own) {
      if (position == call.position[row - 1] + 1) continue;
      std::snprintf(message, capacity, "row %lld is for position %d after %d of the same sequence", (long long)row, position,
                    call.position[row - 1]);
      return false;
    }
    uint64_t *const word = &seen[own / 64];
    const uint64_t bit = uint64_t{1} << own % 64;
    if ((*word & bit) != 0) {
      std::snprintf(message, capacity, "row %lld goes on in row %d of the cache, whose rows must stand together", (long long)row, own);
      return false;
    }
    *word |= bit;
  }
  return true;
}

AttentionOperator MakeAttentionOperator(const AttentionBackend &backend) {
  AttentionOperator made = {};
  made.backend = &backend;
  CustomOp &op = made.callbacks;
  op = CommonCallbacks<AttentionOperator>();
  op.GetName = [](const CustomOp *) { return "Attention"; };
  op.GetInputType = [](const CustomOp *, size_t index) { return kExpected[index].type; };
  op.GetInputTypeCount = [](const CustomOp *) { return kInputs; };
  op.GetOutputType = [](const CustomOp *, size_t) { return ort::kFloat; };
  op.KernelDestroy = DestroyKernel<Kernel>;
  op.GetInputCharacteristic = [](const CustomOp *, size_t index) {
    return index < kRequiredInputs ? ort::kRequired : ort::kOptional;
  };
  op.CreateKernelV2 = Create;
  op.KernelComputeV2 = Compute;
  return made;
}

}  // namespace quiver
