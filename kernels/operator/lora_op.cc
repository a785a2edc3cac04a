#include "lora_op.h"

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

constexpr size_t kY = 0, kX = 1, kSlot = 2, kRank = 3, kScale = 4, kFirstPair = 5;
constexpr char kName[] = "quiver::Lora";

struct Kernel {
  const LoraBackend *backend;
  Api api;
  int64_t site;
  void *state;
};

ort::ElementType TypeOf(Element element) {
  return element == Element::kF32 ? ort::kFloat : element == Element::kF16 ? ort::kFloat16 : ort::kBFloat16;
}

bool ElementOf(ort::ElementType type, Element *element) {
  constexpr Element kAll[] = {Element::kF32, Element::kF16, Element::kBF16};
  for (Element candidate : kAll) {
    if (TypeOf(candidate) == type) {
      *element = candidate;
      return true;
    }
  }
  return false;
}

// Inputs 0 to 4 into `call`, all but the pairs.
Status *ReadCommon(const Kernel &kernel, const ort::KernelContext *context, LoraCall *call, TensorView *rank) {
  const OperatorFront front(kernel.api, kName);
  TensorView y, x, slot, scale;
  TensorView *const views[] = {&y, &x, &slot, rank, &scale};
  const ort::ElementType activation = TypeOf(kernel.backend->activation);
  const struct { const char *name; size_t rank; ort::ElementType type; } expected[] = {
      {"y", 2, activation}, {"x", 2, activation}, {"slot", 1, ort::kInt32}, {"rank", 2, ort::kInt32}, {"scale", 1, ort::kFloat}};
  for (size_t i = 0; i < kFirstPair; i += 1) {
    if (Status *status = front.ReadInput(context, i, views[i])) return status;
    if (views[i]->rank != expected[i].rank)
      return front.Refuse("%s has %zu dimensions, not %zu", expected[i].name, views[i]->rank, expected[i].rank);
    if (views[i]->type != expected[i].type)
      return front.Refuse("%s has element type %d, not %d", expected[i].name, views[i]->type, expected[i].type);
  }
  call->rows = y.dims[0];
  call->columns = y.dims[1];
  call->in = x.dims[1];
  call->slots = scale.dims[0];
  if (x.dims[0] != call->rows || slot.dims[0] != call->rows)
    return front.Refuse("y has %lld rows, x %lld and slot %lld", (long long)call->rows, (long long)x.dims[0],
                        (long long)slot.dims[0]);
  if (rank->dims[1] != call->slots)
    return front.Refuse("rank is for %lld slots and scale for %lld", (long long)rank->dims[1], (long long)call->slots);
  call->y = y.bytes;
  call->x = x.bytes;
  call->slot = static_cast<const int32_t *>(slot.bytes);
  call->scale = static_cast<const float *>(scale.bytes);
  return nullptr;
}

Status *ReadPair(const Kernel &kernel, const ort::KernelContext *context, int index, LoraCall *call) {
  const OperatorFront front(kernel.api, kName);
  TensorView a, b;
  if (Status *status = front.ReadInput(context, kFirstPair + 2 * index, &a)) return status;
  if (Status *status = front.ReadInput(context, kFirstPair + 2 * index + 1, &b)) return status;
  Element weights;
  if (a.type != b.type || !ElementOf(a.type, &weights) || !kernel.backend->weights[static_cast<int>(weights)])
    return front.Refuse("A and B of pair %d have element types %d and %d, which this build does not compute with", index, a.type,
                        b.type);
  if (index > 0 && weights != call->weights) return front.Refuse("pair %d has another element type than pair 0", index);
  call->weights = weights;
  if (a.rank != 3 || b.rank != 3) return front.Refuse("A and B of pair %d have %zu and %zu dimensions, not 3", index, a.rank, b.rank);
  if (index == 0) call->max_rank = a.dims[1];
  if (a.dims[0] != call->slots || b.dims[0] != call->slots)
    return front.Refuse("A and B of pair %d are for %lld and %lld slots, scale for %lld", index, (long long)a.dims[0],
                        (long long)b.dims[0], (long long)call->slots);
  if (a.dims[1] != call->max_rank || b.dims[1] != call->max_rank)
    return front.Refuse("A and B of pair %d hold ranks to %lld and %lld, those before it to %lld", index, (long long)a.dims[1],
                        (long long)b.dims[1], (long long)call->max_rank);
  if (a.dims[2] != call->in)
    return front.Refuse("A of pair %d reads %lld features, x has %lld", index, (long long)a.dims[2], (long long)call->in);
  LoraPair &pair = call->pairs[index];
  pair.a = a.bytes;
  pair.b = b.bytes;
  pair.out = b.dims[2];
  pair.column = index == 0 ? 0 : call->pairs[index - 1].column + call->pairs[index - 1].out;
  return nullptr;
}

// Everything that can be known before a kernel runs. Nothing has been written when it refuses.
Status *ReadCall(const Kernel &kernel, const ort::KernelContext *context, LoraCall *call) {
  const Api &api = kernel.api;
  const OperatorFront front(api, kName);
  size_t count = 0;
  if (Status *status = api.GetInputCount(context, &count)) return status;
  if (count < kFirstPair + 2 || (count - kFirstPair) % 2 != 0 || (count - kFirstPair) / 2 > kMaxPairs)
    return front.Refuse("it has %zu inputs: 5 and one to %d pairs of A and B are wanted", count, kMaxPairs);
  call->pair_count = static_cast<int>((count - kFirstPair) / 2);
  TensorView rank;
  if (Status *status = ReadCommon(kernel, context, call, &rank)) return status;
  if (kernel.site < 0 || kernel.site + call->pair_count > rank.dims[0])
    return front.Refuse("rank has %lld sites, which does not hold %d from site %lld on", (long long)rank.dims[0],
                        call->pair_count, (long long)kernel.site);
  call->site = kernel.site;
  for (int i = 0; i < call->pair_count; i += 1) {
    if (Status *status = ReadPair(kernel, context, i, call)) return status;
    call->pairs[i].rank = static_cast<const int32_t *>(rank.bytes) + (kernel.site + i) * call->slots;
  }
  const LoraPair &last = call->pairs[call->pair_count - 1];
  if (last.column + last.out != call->columns)
    return front.Refuse("y has %lld columns, the pairs write %lld", (long long)call->columns, (long long)(last.column + last.out));
  if (!kernel.backend->indices_on_host) return nullptr;
  char message[kMessageBytes];
  return CheckIndices(*call, message, sizeof message) ? nullptr : front.Refuse("%s", message);
}

Status *QUIVER_ORT_CALL Compute(void *opaque, ort::KernelContext *context) {
  const Kernel &kernel = *static_cast<const Kernel *>(opaque);
  const Api &api = kernel.api;
  LoraCall call;
  if (Status *status = ReadCall(kernel, context, &call)) return status;
  ort::Value *output = nullptr;
  const int64_t dims[] = {call.rows, call.columns};
  if (Status *status = api.GetOutput(context, 0, dims, 2, &output)) return status;
  void *y = nullptr;
  if (Status *status = api.GetTensorMutableData(output, &y)) return status;
  const LoraContext surroundings = {&api, context};
  const size_t bytes = static_cast<size_t>(call.rows * call.columns * ElementBytes(kernel.backend->activation));
  const char *problem = nullptr;
  if (bytes > 0 && y != call.y) problem = kernel.backend->copy(y, call.y, bytes, surroundings);
  call.y = y;
  if (problem == nullptr && bytes > 0) problem = kernel.backend->run(call, surroundings, kernel.state);
  return problem == nullptr ? nullptr : api.CreateStatus(ort::kFail, problem);
}

Status *QUIVER_ORT_CALL Create(const CustomOp *op, const void *table, const ort::KernelInfo *info, void **out) {
  const LoraBackend *backend = reinterpret_cast<const LoraOperator *>(op)->backend;
  const Api api(table);
  int64_t site = 0;
  if (Status *status = api.KernelInfoGetInt(info, "site", &site)) return status;
  void *state = nullptr;
  if (const char *problem = backend->prepare(&state)) return api.CreateStatus(ort::kFail, problem);
  void *memory = std::malloc(sizeof(Kernel));
  if (memory == nullptr) {
    backend->dispose(state);
    return api.CreateStatus(ort::kFail, "quiver::Lora: out of memory");
  }
  *out = new (memory) Kernel{backend, api, site, state};
  return nullptr;
}

// The output is as y is. The runtime computes in place only where it knows beforehand that both have the same shape.
Status *QUIVER_ORT_CALL InferShape(const CustomOp *op, ort::ShapeInferContext *context) {
  const Api &api = reinterpret_cast<const LoraOperator *>(op)->api;
  ort::TensorInfo *y = nullptr;
  if (Status *status = api.ShapeInferGetInput(context, kY, &y)) return status;
  return api.ShapeInferSetOutput(context, 0, y);
}

size_t QUIVER_ORT_CALL MayInplace(int **inputs, int **outputs) {
  int *pair = static_cast<int *>(std::malloc(2 * sizeof(int)));
  if (pair == nullptr) return 0;
  pair[0] = kY;
  pair[1] = 0;
  *inputs = pair;
  *outputs = pair + 1;
  return 1;
}

ort::ElementType QUIVER_ORT_CALL InputType(const CustomOp *op, size_t index) {
  const LoraBackend *backend = reinterpret_cast<const LoraOperator *>(op)->backend;
  switch (index) {
    case kY:
    case kX: return TypeOf(backend->activation);
    case kSlot:
    case kRank: return ort::kInt32;
    case kScale: return ort::kFloat;
    default: return ort::kUndefined;  // any, ReadPair decides
  }
}

}  // namespace

bool CheckIndices(const LoraCall &call, char *message, size_t capacity) {
  for (int64_t row = 0; row < call.rows; row += 1) {
    const int32_t slot = call.slot[row];
    if (slot == -1) continue;
    if (slot < -1 || slot >= call.slots) {
      std::snprintf(message, capacity, "row %lld is for slot %d, there are %lld", (long long)row, slot, (long long)call.slots);
      return false;
    }
    for (int i = 0; i < call.pair_count; i += 1) {
      const int32_t rank = call.pairs[i].rank[slot];
      if (rank >= 0 && rank <= call.max_rank) continue;
      std::snprintf(message, capacity, "slot %d has rank %d at pair %d, the largest is %lld", slot, rank, i,
                    (long long)call.max_rank);
      return false;
    }
  }
  return true;
}

LoraOperator MakeLoraOperator(const LoraBackend &backend, const ort::ApiBase &base) {
  LoraOperator made = {};
  made.backend = &backend;
  made.api = Api(base.GetApi(ort::kApiVersion));
  CustomOp &op = made.callbacks;
  op = CommonCallbacks<LoraOperator>();
  op.GetName = [](const CustomOp *) { return "Lora"; };
  op.GetInputType = InputType;
  op.GetInputTypeCount = [](const CustomOp *) { return kFirstPair + 1; };
  op.GetOutputType = [](const CustomOp *self, size_t) { return InputType(self, kY); };
  op.KernelDestroy = DestroyKernel<Kernel>;
  op.GetInputCharacteristic = [](const CustomOp *, size_t index) { return index < kFirstPair ? ort::kRequired : ort::kVariadic; };
  op.GetInputMemoryType = [](const CustomOp *self, size_t index) {
    const bool is_index = index == kSlot || index == kRank;
    return is_index && reinterpret_cast<const LoraOperator *>(self)->backend->indices_on_host ? ort::kCpuInput : ort::kDefaultMemory;
  };
  op.GetVariadicInputMinArity = [](const CustomOp *) { return 2; };
  op.CreateKernelV2 = Create;
  op.KernelComputeV2 = Compute;
  op.InferOutputShape = InferShape;
  op.GetMayInplace = MayInplace;
  op.ReleaseMayInplace = [](int *inputs, int *) { std::free(inputs); };
  return made;
}

}  // namespace quiver
