// What an operator's front reads of its inputs, and how it refuses them.
#pragma once

#include "ort_abi.h"

namespace quiver {

constexpr int kMessageBytes = 256;

struct TensorView {
  // More dimensions than that are counted in `rank` but not read.
  static constexpr size_t kMostDims = 5;
  ort::ElementType type = ort::kUndefined;
  int64_t dims[kMostDims] = {0, 0, 0, 0, 0};
  size_t rank = 0;
  // nullptr where an optional input is not there.
  void *bytes = nullptr;
};

// The calls of one operator, named in every message, e.g. "quiver::Lora".
class OperatorFront {
 public:
  OperatorFront(const ort::Api &api, const char *name) : api_(api), name_(name) {}

  // A status that ends the run with what is wrong with its inputs.
  __attribute__((format(printf, 2, 3))) ort::Status *Refuse(const char *format, ...) const;
  ort::Status *ReadInput(const ort::KernelContext *context, size_t index, TensorView *view) const;
  // Leaves `view` as it is where the graph gives no such input.
  ort::Status *ReadOptional(const ort::KernelContext *context, size_t index, TensorView *view) const;
  const ort::Api &api() const { return api_; }

 private:
  const ort::Api &api_;
  const char *const name_;
};

}  // namespace quiver
