// Kernels with a mistake planted in each, and the same kernels without it. `planted NAME` runs the one with the mistake,
// `planted NAME right` its twin. The program ends with 0 and says "right", or with 1 and says "wrong result"; or the shim or a
// sanitizer ends it.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "gpu.cuh"

namespace {

constexpr int threads = 64;

template <typename T>
T *device(const std::vector<T> &values) {
  T *memory = nullptr;
  cudaMalloc(&memory, values.size() * sizeof(T));
  cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  return memory;
}

/** 0, 1, 2, … as values of T. */
template <typename T>
std::vector<T> counting(int count) {
  std::vector<T> values(count);
  for (int at = 0; at < count; at++) {
    if constexpr (sizeof(T) == 2) values[at] = from_float<T>(static_cast<float>(at));
    else values[at] = static_cast<T>(at);
  }
  return values;
}

template <bool planted>
__global__ void read_before_write(float *out) {
  DYNAMIC_SHARED(float, shared);
  const int at = threadIdx.x;
  shared[at] = static_cast<float>(at);
  if (!planted) __syncthreads();
  out[threads - 1 - at] = shared[threads - 1 - at];
}

template <bool planted>
__global__ void missing_warp_barrier(float *out) {
  DYNAMIC_SHARED(float, shared);
  const int at = threadIdx.x;
  shared[at] = static_cast<float>(at);
  if (!planted) __syncwarp();
  out[at ^ 31] = shared[at ^ 31];
}

// Two buffers, filled in turns while the other is read. Sums every value of a row that is a multiple of `threads` * 8 long.
template <bool no_last_barrier, int under_way>
__global__ void pipeline(float *out, const half *in, int steps) {
  DYNAMIC_SHARED(half, shared);
  const int at = threadIdx.x;
  const auto load = [&](int step) {
    if (step < steps) cp_async16(shared + (step % 2 * threads + at) * 8, in + (step * threads + at) * 8, true);
    cp_commit();
  };
  float sum = 0;
  load(0);
  for (int step = 0; step < steps; step++) {
    load(step + 1);
    cp_wait<under_way>();
    __syncthreads();
    // Not its own values, but its mirror's.
    for (int k = 0; k < 8; k++) sum += to_float(shared[(step % 2 * threads + threads - 1 - at) * 8 + k]);
    if (!no_last_barrier) __syncthreads();
  }
  cp_wait<0>();
  out[threads - 1 - at] = sum;
}

template <bool planted>
__global__ void global_overrun(float *out, const float *in) {
  out[threadIdx.x] = in[threadIdx.x + (planted ? 1 : 0)];
}

template <bool planted>
__global__ void static_overrun(float *out) {
  __shared__ float shared[planted ? threads - 1 : threads];
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x];
}

template <bool planted>
__global__ void dynamic_overrun(float *out) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x + (planted ? 1 : 0)] = 1;
  out[threadIdx.x] = static_cast<float>(threadIdx.x);
}

template <bool planted>
__global__ void divergent_barrier(float *out) {
  if (!planted || threadIdx.x % 2 == 0) __syncthreads();
  else __syncthreads();
  out[threadIdx.x] = static_cast<float>(threadIdx.x);
}

template <bool planted>
__global__ void exited_thread(float *out) {
  out[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (planted && threadIdx.x >= 40) return;
  __syncthreads();
}

template <bool planted>
__global__ void half_mask_shuffle(float *out) {
  const int at = threadIdx.x;
  float value = static_cast<float>(at);
  if (at % 32 < 16) value = __shfl_xor_sync(planted ? 0xffffffffu : 0xffffu, value, 1);
  else value = static_cast<float>(at ^ 1);
  out[at ^ 1] = value;
}

template <bool planted>
__global__ void foreign_lane_shuffle(float *out) {
  const int at = threadIdx.x;
  float value = static_cast<float>(at ^ 1);
  if (at % 32 < 16) value = __shfl_xor_sync(0xffffu, static_cast<float>(at), planted ? 16 : 1);
  out[at ^ 1] = value;
}

template <bool planted>
__global__ void mismatched_collectives(float *out) {
  const int at = threadIdx.x;
  const unsigned lower = 0xffffu, upper = 0xffff0000u, all = 0xffffffffu;
  if (at % 32 < 16) __any_sync(planted ? all : lower, 1);
  else __shfl_xor_sync(planted ? all : upper, at, 1);
  out[at] = static_cast<float>(at);
}

template <bool planted>
__global__ void foreign_mask(float *out) {
  const int at = threadIdx.x;
  __syncwarp(planted || at % 32 < 16 ? 0xffffu : 0xffff0000u);
  out[at] = static_cast<float>(at);
}

template <bool planted>
__global__ void misaligned_ldmatrix(float *out) {
  DYNAMIC_SHARED(half, shared);
  for (int k = 0; k < 16; k++) shared[threadIdx.x * 16 + k] = from_float<half>(0);
  __syncthreads();
  unsigned regs[4];
  ldmatrix_x4(regs, shared + threadIdx.x % 32 * 8 + (planted ? 4 : 0));
  out[threadIdx.x] = static_cast<float>(threadIdx.x + regs[0]);
}

template <bool planted>
__global__ void misaligned_load(float *out, const float *in) {
  const uint4 four = *reinterpret_cast<const uint4 *>(in + threadIdx.x / 4 * 4 + (planted ? 2 : 0));
  const unsigned words[4] = {four.x, four.y, four.z, four.w};
  float value;
  memcpy(&value, &words[threadIdx.x % 4], sizeof value);
  out[threadIdx.x] = value;
}

template <bool planted>
__global__ void misaligned_copy(float *out, const float *in) {
  DYNAMIC_SHARED(float, shared);
  cp_async16(shared + threadIdx.x * 4, in + (planted ? 1 : 0), true);
  cp_commit();
  cp_wait<0>();
  out[threadIdx.x] = static_cast<float>(threadIdx.x);
}

template <bool planted>
__global__ void unwaited_copy(float *out, const float *in) {
  DYNAMIC_SHARED(float, shared);
  cp_async16(shared + threadIdx.x * 4, in, true);
  cp_commit();
  if (!planted) cp_wait<0>();
  out[threadIdx.x] = static_cast<float>(threadIdx.x);
}

// A row that is not to be read, past the end of what there is: zeros without a look at it.
template <bool planted>
__global__ void overrun_by_copy(float *out, const float *in) {
  DYNAMIC_SHARED(float, shared);
  const int at = threadIdx.x;
  const bool is_inside = at < threads / 4;
  cp_async16(shared + at * 4, in + at * 4, planted || is_inside);
  cp_commit();
  cp_wait<0>();
  __syncthreads();
  out[at] = shared[at] + shared[threads + at];
}

bool report(const float *out) {
  for (int at = 0; at < threads; at++) {
    if (out[at] == static_cast<float>(at)) continue;
    printf("wrong result: %g at %d\n", static_cast<double>(out[at]), at);
    return false;
  }
  printf("right\n");
  return true;
}

bool run_pipeline(const std::string &name, bool planted) {
  constexpr int steps = 5;
  float *out = nullptr;
  cudaMalloc(&out, threads * sizeof(float));
  std::vector<half> in(steps * threads * 8);
  for (int at = 0; at < steps * threads * 8; at++) in[at] = from_float<half>(static_cast<float>(at / 8 % threads) / (steps * 8));
  const size_t bytes = 2 * threads * 8 * sizeof(half);
  const half *source = device(in);
  if (!planted) LAUNCH((pipeline<false, 1>), 1, threads, bytes, 0, out, source, steps);
  else if (name == "wrong-wait-count") LAUNCH((pipeline<false, 2>), 1, threads, bytes, 0, out, source, steps);
  else LAUNCH((pipeline<true, 1>), 1, threads, bytes, 0, out, source, steps);
  // A thread's sum belongs to its mirror, up to the rounding of sums.
  for (int at = 0; at < threads; at++) {
    if (std::fabs(out[at] - static_cast<float>(at)) < 0.05f) out[at] = static_cast<float>(at);
  }
  return report(out);
}

#define CASE(name_of_case, kernel, bytes, ...)                                        \
  if (name == name_of_case) {                                                          \
    if (planted) LAUNCH((kernel<true>), 1, threads, bytes, 0, out, ##__VA_ARGS__);     \
    else LAUNCH((kernel<false>), 1, threads, bytes, 0, out, ##__VA_ARGS__);            \
    return report(out) ? 0 : 1;                                                        \
  }

int run(const std::string &name, bool planted) {
  float *out = nullptr;
  cudaMalloc(&out, threads * sizeof(float));
  const float *in = device(counting<float>(threads));
  if (name == "write-after-read" || name == "wrong-wait-count") return run_pipeline(name, planted) ? 0 : 1;
  CASE("read-after-write", read_before_write, threads * 4)
  CASE("missing-warp-barrier", missing_warp_barrier, threads * 4)
  CASE("global-overrun", global_overrun, 0, in)
  CASE("static-overrun", static_overrun, 0)
  CASE("dynamic-overrun", dynamic_overrun, threads * 4)
  CASE("divergent-barrier", divergent_barrier, 0)
  CASE("exited-thread", exited_thread, 0)
  CASE("half-mask-shuffle", half_mask_shuffle, 0)
  CASE("foreign-lane-shuffle", foreign_lane_shuffle, 0)
  CASE("mismatched-collectives", mismatched_collectives, 0)
  CASE("foreign-mask", foreign_mask, 0)
  CASE("misaligned-ldmatrix", misaligned_ldmatrix, threads * 32)
  CASE("misaligned-load", misaligned_load, 0, in)
  CASE("misaligned-copy", misaligned_copy, threads * 16, in)
  CASE("unwaited-copy", unwaited_copy, threads * 16, in)
  CASE("overrun-by-copy", overrun_by_copy, threads * 16, in)
  fprintf(stderr, "planted: no case %s\n", name.c_str());
  return 2;
}

}  // namespace

int main(int count, char **words) {
  if (count < 2) return 2;
  return run(words[1], count < 3 || strcmp(words[2], "right") != 0);
}
