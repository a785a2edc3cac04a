// The value types of CUDA that kernels use, with their sizes and alignments.
#pragma once

#include <cstdint>
#include <cstring>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/** IEEE binary16. The compiler's own 16-bit type rounds to the nearest, ties to even, as the GPU's conversion does. */
struct half {
  uint16_t bits;
};
/** The upper half of a float. */
struct bfloat16 {
  uint16_t bits;
};
using __half = half;
using __nv_bfloat16 = bfloat16;

inline float to_float(half value) {
  _Float16 number;
  memcpy(&number, &value, sizeof number);
  return static_cast<float>(number);
}
inline float to_float(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

template <typename T>
T from_float(float value);
template <>
inline half from_float<half>(float value) {
  const _Float16 number = static_cast<_Float16>(value);
  half result;
  memcpy(&result, &number, sizeof result);
  return result;
}
template <>
inline bfloat16 from_float<bfloat16>(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  // A NaN must not round up to infinity.
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
