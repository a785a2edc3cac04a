#pragma once

#include <cstddef>

namespace quiver {

// Runs `body(data, index)` for every index below `count`, on however many threads there are; returns when all are done.
// A body must not wait for another one.
class Parallel {
 public:
  virtual void For(size_t count, void (*body)(void *, size_t), void *data) = 0;

 protected:
  ~Parallel() = default;
};

}  // namespace quiver
