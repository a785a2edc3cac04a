// What the shim computes, against plain loops: `semantics NAME` ends with 0 and says "right" where both agree.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gpu.cuh"

namespace {

#define EXPECT(condition)                                                \
  do {                                                                   \
    if (!(condition)) {                                                  \
      printf("wrong: %s, line %d\n", #condition, __LINE__);              \
      return 1;                                                          \
    }                                                                    \
  } while (0)

// d[16, 8] = a[16, 16] b[16, 8]: a by ldmatrix of its rows, b either as b[k][n] by the transposing form, or as its transpose.
template <typename T, bool b_is_transposed>
__global__ void product(float *d, const T *a, const T *b) {
  DYNAMIC_SHARED(T, shared);
  T *shared_a = shared, *shared_b = shared + 16 * 16;
  const int lane = threadIdx.x;
  for (int at = lane; at < 16 * 16; at += 32) shared_a[at] = a[at];
  for (int at = lane; at < 2 * 16 * 8; at += 32) shared_b[at] = b[at % 128];
  __syncwarp();
  unsigned left[4], right[4];
  ldmatrix_x4(left, shared_a + lane % 16 * 16 + lane / 16 * 8);
  if (b_is_transposed) ldmatrix_x4(right, shared_b + lane % 8 * 16 + lane / 8 % 2 * 8);
  else ldmatrix_x4_trans(right, shared_b + lane * 8);
  float sum[4] = {0, 0, 0, 0};
  mma16816<T>(sum, left, right[0], right[1]);
  for (int at = 0; at < 4; at++) d[(lane / 4 + at / 2 * 8) * 8 + lane % 4 * 2 + at % 2] = sum[at];
}

template <typename T, bool b_is_transposed>
int check_product() {
  T *a, *b;
  float *d;
  cudaMalloc(&a, 16 * 16 * sizeof(T));
  cudaMalloc(&b, 16 * 8 * sizeof(T));
  cudaMalloc(&d, 16 * 8 * sizeof(float));
  for (int at = 0; at < 256; at++) a[at] = from_float<T>(static_cast<float>((at * 7) % 23 - 11) / 4);
  for (int at = 0; at < 128; at++) b[at] = from_float<T>(static_cast<float>((at * 5) % 19 - 9) / 8);
  LAUNCH((product<T, b_is_transposed>), 1, 32, (256 + 256) * sizeof(T), 0, d, a, b);
  EXPECT(cudaGetLastError() == cudaSuccess);
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      double sum = 0;
      for (int k = 0; k < 16; k++) {
        sum += static_cast<double>(to_float(a[row * 16 + k])) * to_float(b_is_transposed ? b[column * 16 + k] : b[k * 8 + column]);
      }
      // The values are small multiples of 1/32: every sum is exact.
      EXPECT(d[row * 8 + column] == static_cast<float>(sum));
    }
  }
  return 0;
}

int check_matrices() {
  return check_product<half, false>() + check_product<half, true>() + check_product<bfloat16, false>() +
         check_product<bfloat16, true>();
}

__global__ void lanes(int *out) {
  const int lane = threadIdx.x;
  int *own = out + lane * 8;
  own[0] = __shfl_sync(0xffffffffu, lane, 5);
  own[1] = __shfl_sync(0xffffffffu, lane, 3, 8);
  own[2] = __shfl_xor_sync(0xffffffffu, lane, 4);
  own[3] = __shfl_up_sync(0xffffffffu, lane, 3);
  own[4] = __shfl_down_sync(0xffffffffu, lane, 3, 16);
  own[5] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
  own[6] = __any_sync(0xffffffffu, lane == 9) + 2 * __all_sync(0xffffffffu, lane < 31);
  own[7] = lane < 8 ? static_cast<int>(__ballot_sync(0xffu, 1)) : 0;
}

int check_lanes() {
  int *out;
  cudaMalloc(&out, 32 * 8 * sizeof(int));
  LAUNCH((lanes), 1, 32, 0, 0, out);
  int thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1 << lane;
  for (int lane = 0; lane < 32; lane++) {
    const int *own = out + lane * 8;
    EXPECT(own[0] == 5);
    EXPECT(own[1] == lane / 8 * 8 + 3);
    EXPECT(own[2] == (lane ^ 4));
    EXPECT(own[3] == (lane < 3 ? lane : lane - 3));
    EXPECT(own[4] == (lane % 16 < 13 ? lane + 3 : lane));
    EXPECT(own[5] == thirds);
    EXPECT(own[6] == 1);
    EXPECT(own[7] == (lane < 8 ? 0xff : 0));
  }
  return 0;
}

int check_numbers() {
  EXPECT(to_float(from_float<half>(1.0f + 1.0f / 2048)) == 1.0f);
  EXPECT(to_float(from_float<half>(1.0f + 3.0f / 2048)) == 1.0f + 2.0f / 1024);
  EXPECT(to_float(from_float<half>(65519.0f)) == 65504.0f);
  EXPECT(std::isinf(to_float(from_float<half>(65520.0f))));
  EXPECT(to_float(from_float<half>(6e-8f)) == 5.9604645e-8f);
  EXPECT(to_float(from_float<bfloat16>(1.0f + 1.0f / 256)) == 1.0f);
  EXPECT(to_float(from_float<bfloat16>(1.0f + 3.0f / 256)) == 1.0f + 2.0f / 128);
  EXPECT(std::isinf(to_float(from_float<bfloat16>(3.4e38f))));
  EXPECT(std::isnan(to_float(from_float<half>(NAN))) && std::isnan(to_float(from_float<bfloat16>(NAN))));
  uint32_t low_nan = 0x7f800001u;
  float number;
  memcpy(&number, &low_nan, sizeof number);
  EXPECT(std::isnan(to_float(from_float<bfloat16>(number))));
  return 0;
}

__global__ void empty(int *) {}
__global__ void add_index(int *sums) { atomicAdd(&sums[blockIdx.x], static_cast<int>(threadIdx.x)); }

int check_launches() {
  const auto error_of = [](dim3 grid, dim3 block, size_t bytes) {
    LAUNCH((empty), grid, block, bytes, 0, nullptr);
    return cudaGetLastError();
  };
  EXPECT(error_of(1, 1024, 0) == cudaSuccess);
  EXPECT(error_of(1, 1025, 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(1, dim3(32, 33, 1), 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(1, 0, 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(0, 32, 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(dim3(1, 65536, 1), 32, 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(dim3(1, 1, 65536), 32, 0) == cudaErrorInvalidConfiguration);
  EXPECT(error_of(1, 32, 48 << 10) == cudaSuccess);
  EXPECT(error_of(1, 32, (48 << 10) + 1) == cudaErrorInvalidValue);
  EXPECT(cudaFuncSetAttribute(empty, cudaFuncAttributeMaxDynamicSharedMemorySize, (227 << 10) + 1) == cudaErrorInvalidValue);
  cudaGetLastError();
  EXPECT(cudaFuncSetAttribute(empty, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10) == cudaSuccess);
  EXPECT(error_of(1, 32, 227 << 10) == cudaSuccess);
  return 0;
}

__global__ void copy_shared(unsigned char *out) {
  DYNAMIC_SHARED(unsigned char, shared);
  out[blockIdx.x * 32 + threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 7;
}

int check_poison() {
  unsigned char *out;
  cudaMalloc(&out, 100);
  for (int at = 0; at < 100; at++) EXPECT(out[at] == 0xff);
  LAUNCH((copy_shared), 2, 32, 32, 0, out);
  // What the first block left is gone when the second begins.
  for (int at = 0; at < 64; at++) EXPECT(out[at] == 0xff);
  return 0;
}

int check_graphs() {
  int *sums;
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cudaMalloc(&sums, 3 * sizeof(int));
  cudaMemset(sums, 0, 3 * sizeof(int));
  cudaStreamCreate(&stream);
  EXPECT(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  LAUNCH((add_index), 3, 10, 0, stream, sums);
  EXPECT(sums[0] == 0);
  EXPECT(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  EXPECT(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
  EXPECT(cudaGraphLaunch(executable, stream) == cudaSuccess && cudaGraphLaunch(executable, stream) == cudaSuccess);
  EXPECT(sums[0] == 90 && sums[2] == 90);
  const auto spoilt_by = [&](auto call) {
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    const bool is_refused = call() == cudaErrorStreamCaptureUnsupported;
    cudaGraph_t none;
    return is_refused && cudaStreamEndCapture(stream, &none) == cudaErrorStreamCaptureInvalidated && none == nullptr;
  };
  void *memory;
  EXPECT(spoilt_by([&] { return cudaMalloc(&memory, 16); }));
  EXPECT(spoilt_by([&] { return cudaFree(nullptr); }));
  EXPECT(spoilt_by([&] { return cudaStreamSynchronize(stream); }));
  EXPECT(spoilt_by([&] { return cudaDeviceSynchronize(); }));
  EXPECT(spoilt_by([&] { return cudaMemset(sums, 0, 4); }));
  return 0;
}

__global__ void log_order(int *next, int *log) {
  const int entry = atomicAdd(next, 1);
  log[entry] = static_cast<int>(blockIdx.x * 64 + threadIdx.x);
}

/** Not compared with anything: the order in which threads ran, for the test to compare between settings of EMULATOR_ORDER. */
int print_order() {
  int *next, *log;
  cudaMalloc(&next, sizeof(int));
  cudaMalloc(&log, 128 * sizeof(int));
  cudaMemset(next, 0, sizeof(int));
  LAUNCH((log_order), 2, 64, 0, 0, next, log);
  for (int at = 0; at < 128; at++) printf("%d ", log[at]);
  return 0;
}

__global__ void deep_recursion(int *out) {
  // More than the 256 kB of a thread's stack.
  volatile char local[300 << 10];
  local[0] = 1;
  out[0] = local[0];
}

int overflow_stack() {
  int *out;
  cudaMalloc(&out, sizeof(int));
  LAUNCH((deep_recursion), 1, 1, 0, 0, out);
  return 0;
}

}  // namespace

int main(int count, char **words) {
  const std::string name = count > 1 ? words[1] : "";
  int result = 2;
  if (name == "matrices") result = check_matrices();
  if (name == "lanes") result = check_lanes();
  if (name == "numbers") result = check_numbers();
  if (name == "launches") result = check_launches();
  if (name == "poison") result = check_poison();
  if (name == "graphs") result = check_graphs();
  if (name == "order") result = print_order();
  if (name == "stack") result = overflow_stack();
  if (result == 0) printf("right\n");
  return result;
}
