// The part of CUDA C++ that Quiver's kernels use, for a C++ compiler. See kernels/README.md for what it checks and what it cannot.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "core.h"
#include "runtime.h"
#include "types.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// Plain static, not thread_local: one OS thread runs all blocks, and the sanitizers watch only plain statics.
#define __shared__ static

#define threadIdx (::emulator::self->thread_index)
#define blockIdx (::emulator::self->block_index)
#define blockDim (::emulator::self->block_size)
#define gridDim (::emulator::self->grid_size)

#define LAUNCH_UNPACK(...) __VA_ARGS__
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::emulator::launch(LAUNCH_UNPACK kernel, #kernel, grid, block, shared_bytes, stream __VA_OPT__(, ) __VA_ARGS__)
#define DYNAMIC_SHARED(T, name) T *name = static_cast<T *>(::emulator::dynamic_shared())

#define PLACE_ARGUMENT const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(PLACE_ARGUMENT) { emulator::barrier({file, line}); }

template <typename T>
inline T __ldg(const T *address) {
  return *address;
}
inline int atomicAdd(int *address, int value) { return __atomic_fetch_add(address, value, __ATOMIC_RELAXED); }

namespace emulator {

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Arguments &&...arguments) {
  using Values = std::tuple<std::decay_t<Parameters>...>;
  struct Closure {
    void (*kernel)(Parameters...);
    Values values;
  };
  // Converted once to the kernel's own parameter types, as a launch does.
  const Closure closure{kernel, Values(std::forward<Arguments>(arguments)...)};
  const auto start = [closure, name, grid, block, shared_bytes] {
    const auto entry = [](const void *opaque) {
      const Closure &call = *static_cast<const Closure *>(opaque);
      std::apply(call.kernel, call.values);
    };
    return run({name, reinterpret_cast<const void *>(closure.kernel), entry, &closure, grid, block, shared_bytes});
  };
  submit(stream, start);
}

}  // namespace emulator
