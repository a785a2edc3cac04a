#pragma once

#include <cstddef>
#include <cstdlib>

namespace quiver::host {

// Memory of the calling thread that is kept for the next call: it grows to what was needed most.
class Scratch {
 public:
  ~Scratch() { std::free(bytes_); }
  void *Reserve(size_t bytes) {
    if (bytes > capacity_) {
      std::free(bytes_);
      bytes_ = std::malloc(bytes);
      capacity_ = bytes_ == nullptr ? 0 : bytes;
    }
    return bytes_;
  }

 private:
  void *bytes_ = nullptr;
  size_t capacity_ = 0;
};

struct ThreadScratch {
  Scratch groups;
  Scratch tasks;
  Scratch shrunk;
  Scratch queries;
  Scratch parts;
  Scratch cut_tasks;
  // What a task of attention computes in, on whichever thread it is.
  Scratch attend;
  // Rows as integers (product.h).
  Scratch quantized;
};

inline ThreadScratch &ScratchOfThread() {
  static thread_local ThreadScratch scratch;
  return scratch;
}

}  // namespace quiver::host
