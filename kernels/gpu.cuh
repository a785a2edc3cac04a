// The one header that a CUDA source of Quiver includes.
//
// nvcc sees CUDA's own headers and, below, the few instructions that have no portable spelling in CUDA C++: asynchronous
// copies, ldmatrix and mma. A C++ compiler sees the execution shim of kernels/emulator instead, which runs the same source on
// a CPU, one thread of the grid after the other, and stops at mistakes that a GPU would pass over. Inline PTX is written here
// and nowhere else.
//
//   LAUNCH((kernel<T>), grid, block, shared_bytes, stream, arguments...)   starts a kernel, whose name stands in brackets
//   DYNAMIC_SHARED(T, name)         T *name = the launch's dynamic shared memory, 16-byte aligned
//   cp_async16(to, from, read)      16 bytes from global to shared memory, later; zeros, without reading, where read is false
//   cp_commit(), cp_wait<N>()       closes a group of copies; waits until at most N groups are under way
//   ldmatrix_x4(regs, row)          four 8x8 tiles of 16-bit values; lane i names row i % 8 of tile i / 8 (16 bytes, aligned)
//   ldmatrix_x4_trans(regs, row)    the same, every tile transposed
//   mma16816<T>(d, a, b)            d[16, 8] += a[16, 16] b[16, 8] in float, registers as in the PTX ISA (mma.m16n8k16)
//   to_float(v), from_float<T>(f)   T is half or bfloat16; to the nearest, ties to even
#pragma once

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

using bfloat16 = __nv_bfloat16;

#define LAUNCH_UNPACK(...) __VA_ARGS__
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  LAUNCH_UNPACK kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(T, name)                                    \
  extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
  T *name = reinterpret_cast<T *>(dynamic_shared)

__host__ __device__ __forceinline__ float to_float(half value) { return __half2float(value); }
__host__ __device__ __forceinline__ float to_float(bfloat16 value) { return __bfloat162float(value); }
template <typename T>
__host__ __device__ __forceinline__ T from_float(float value);
template <>
__host__ __device__ __forceinline__ half from_float<half>(float value) {
  return __float2half_rn(value);
}
template <>
__host__ __device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

__device__ __forceinline__ unsigned shared_address(const void *shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ void cp_async16(void *shared, const void *global, bool read) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(read ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int groups>
__device__ __forceinline__ void cp_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4(unsigned (&regs)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(regs[0]), "=r"(regs[1]), "=r"(regs[2]), "=r"(regs[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&regs)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(regs[0]), "=r"(regs[1]), "=r"(regs[2]), "=r"(regs[3])
               : "r"(shared_address(row))
               : "memory");
}

template <typename T>
__device__ __forceinline__ void mma16816(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
template <>
__device__ __forceinline__ void mma16816<half>(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void mma16816<bfloat16>(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else
#include "emulator/emulator.h"
#endif
