// NEON of 64-bit ARM, on vectors of 4 outputs; with instructions for dot products where the file is compiled for them.
#pragma once

#if defined(__aarch64__)
#include <arm_neon.h>

#include "product_tiles.h"

namespace quiver::host {
namespace {

struct NeonOutputs {
  using I = int32x4_t;
  using F = float32x4_t;
  using Weights = int8x16_t;
  static constexpr int kOutputs = 4;
  static constexpr int kRows = 4;

  static I Start(const int32_t *) { return vdupq_n_s32(0); }
  static Weights Load(const uint8_t *from) { return vreinterpretq_s8_u8(vld1q_u8(from)); }
  static int8x16_t Four(const int8_t *four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof bits);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
  }
  static F Zero() { return vdupq_n_f32(0); }
  static F Scales(const uint8_t *from) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t *>(from)), 16));
  }
  static F Accumulate(I sums, const float *row_scale, F scales, F total) {
    return vfmaq_f32(total, vmulq_n_f32(vcvtq_f32_s32(sums), *row_scale), scales);
  }
  static void Store(float *to, F value, int count) {
    if (count >= 4) return vst1q_f32(to, value);
    float lanes[4];
    vst1q_f32(lanes, value);
    for (int i = 0; i < count; i += 1) to[i] = lanes[i];
  }
  static void Prefetch(const uint8_t *at) { __builtin_prefetch(at + 2048); }

  static uint32_t Magnitude(const float *x) {
    const uint32x4_t sign_off = vdupq_n_u32(0x7fffffff);
    uint32x4_t most = vdupq_n_u32(0);
    for (int i = 0; i < kBlockInputs; i += 4)
      most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), sign_off));
    return vmaxvq_u32(most);
  }
  static int32_t Round(const float *x, float inverse, int8_t *to) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < kBlockInputs; i += 8) {
      const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
      const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
      vst1_s8(to + i, vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high))));
      sum = vaddq_s32(sum, vaddq_s32(low, high));
    }
    return -128 * vaddvq_s32(sum);
  }
};

}  // namespace
}  // namespace quiver::host
#endif
