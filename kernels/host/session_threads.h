#pragma once

#include "../operator/ort_abi.h"
#include "../operator/parallel.h"

namespace quiver {

// The threads of the session that a node runs in.
class SessionThreads final : public Parallel {
 public:
  SessionThreads(const ort::Api &api, const ort::KernelContext *context) : api_(api), context_(context) {}

  void For(size_t count, void (*body)(void *, size_t), void *data) override {
    ort::Status *status = api_.ParallelFor(context_, body, count, 0, data);
    if (status == nullptr) return;
    // It refuses before it starts anything.
    api_.ReleaseStatus(status);
    for (size_t i = 0; i < count; i += 1) body(data, i);
  }

 private:
  const ort::Api &api_;
  const ort::KernelContext *const context_;
};

}  // namespace quiver
