#include "tensor_view.h"

#include <cstdarg>
#include <cstdio>

namespace quiver {
namespace {

ort::Status *ReadTensor(const ort::Api &api, const ort::Value *value, TensorView *view) {
  ort::TensorInfo *info = nullptr;
  ort::Status *status = api.GetTensorTypeAndShape(value, &info);
  if (status != nullptr) return status;
  status = api.GetTensorElementType(info, &view->type);
  if (status == nullptr) status = api.GetDimensionsCount(info, &view->rank);
  if (status == nullptr && view->rank <= TensorView::kMostDims) status = api.GetDimensions(info, view->dims, view->rank);
  api.ReleaseTensorInfo(info);
  // The runtime has one function for reading and for writing.
  if (status == nullptr) status = api.GetTensorMutableData(const_cast<ort::Value *>(value), &view->bytes);
  return status;
}

}  // namespace

ort::Status *OperatorFront::Refuse(const char *format, ...) const {
  char message[kMessageBytes];
  const int prefix = std::snprintf(message, sizeof message, "%s: ", name_);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message + prefix, sizeof message - prefix, format, arguments);
  va_end(arguments);
  return api_.CreateStatus(ort::kInvalidArgument, message);
}

ort::Status *OperatorFront::ReadInput(const ort::KernelContext *context, size_t index, TensorView *view) const {
  const ort::Value *value = nullptr;
  if (ort::Status *status = api_.GetInput(context, index, &value)) return status;
  if (value == nullptr) return Refuse("input %zu is missing", index);
  return ReadTensor(api_, value, view);
}

ort::Status *OperatorFront::ReadOptional(const ort::KernelContext *context, size_t index, TensorView *view) const {
  size_t count = 0;
  if (ort::Status *status = api_.GetInputCount(context, &count)) return status;
  if (index >= count) return nullptr;
  const ort::Value *value = nullptr;
  if (ort::Status *status = api_.GetInput(context, index, &value)) return status;
  return value == nullptr ? nullptr : ReadTensor(api_, value, view);
}

}  // namespace quiver
