// NEON of 64-bit ARM: every processor of that architecture has it, conversion from half included.
#include "kernel_table.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace quiver::host {
namespace {

struct Neon {
  using V = float32x4_t;
  static constexpr int kWidth = 4;
  // 24 sums, 4 weights, 1 value of 32 registers.
  static constexpr int kDotRows = 6;
  static constexpr int kDotRowsWidened = 4;
  static constexpr int kOutRows = 6;
  static constexpr int kOutRowsWidened = 4;
  static constexpr int kOutVectors = 4;

  static V Zero() { return vdupq_n_f32(0); }
  static V Set(float value) { return vdupq_n_f32(value); }
  static V Add(V a, V b) { return vaddq_f32(a, b); }
  static V Sub(V a, V b) { return vsubq_f32(a, b); }
  static V Mul(V a, V b) { return vmulq_f32(a, b); }
  static V Div(V a, V b) { return vdivq_f32(a, b); }
  static V Max(V a, V b) { return vmaxq_f32(a, b); }
  static V Fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  static V Widened(uint16x4_t bits, F16) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }
  static V Widened(uint16x4_t bits, BF16) { return vreinterpretq_f32_u32(vshll_n_u16(bits, 16)); }
  static V Load(const float *from) { return vld1q_f32(from); }
  template <class W>
  static V Load(const W *from) {
    return Widened(vld1_u16(reinterpret_cast<const uint16_t *>(from)), W{});
  }
  template <class W>
  static V LoadPart(const W *from, int n) {
    W lanes[4] = {};
    for (int i = 0; i < n; i += 1) lanes[i] = from[i];
    return Load(lanes);
  }
  static void Store(float *to, V value) { vst1q_f32(to, value); }
  static void StorePart(float *to, V value, int n) {
    float lanes[4];
    vst1q_f32(lanes, value);
    for (int i = 0; i < n; i += 1) to[i] = lanes[i];
  }
  static void Store(F16 *to, V value) { vst1_u16(reinterpret_cast<uint16_t *>(to), vreinterpret_u16_f16(vcvt_f16_f32(value))); }
  static void StorePart(F16 *to, V value, int n) {
    F16 lanes[4];
    Store(lanes, value);
    for (int i = 0; i < n; i += 1) to[i] = lanes[i];
  }
  // value · 2^n, where n is the integer in the low bits of `shifted`.
  static V TimesPowerOf2(V value, V shifted) {
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(value), vshlq_n_u32(vreinterpretq_u32_f32(shifted), 23)));
  }
  // 0 where x < limit.
  static V ZeroBelow(V value, V x, V limit) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), vcltq_f32(x, limit)));
  }
  static float Sum(V value) { return vaddvq_f32(value); }
  static void Sum4(V a, V b, V c, V d, float *to) { vst1q_f32(to, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))); }
};

constexpr HostKernels kKernels = KernelsOf<Neon>("neon");

}  // namespace

const HostKernels *NeonKernels() { return &kKernels; }

}  // namespace quiver::host
#else
const quiver::host::HostKernels *quiver::host::NeonKernels() { return nullptr; }
#endif
