// One element at a time: for processors without any of the others, and for reading.
#include "kernel_table.h"

namespace quiver::host {
namespace {

struct Scalar {
  using V = float;
  static constexpr int kWidth = 1;
  static constexpr int kDotRows = 2;
  static constexpr int kDotRowsWidened = 2;
  static constexpr int kOutRows = 2;
  static constexpr int kOutRowsWidened = 2;
  static constexpr int kOutVectors = 4;

  static V FromBits(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }
  static uint32_t ToBits(V value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
  }
  static V Zero() { return 0; }
  static V Set(float value) { return value; }
  static V Add(V a, V b) { return a + b; }
  static V Sub(V a, V b) { return a - b; }
  static V Mul(V a, V b) { return a * b; }
  static V Div(V a, V b) { return a / b; }
  static V Max(V a, V b) { return a > b ? a : b; }
  static V Fma(V a, V b, V c) { return a * b + c; }
  static V Load(const float *from) { return *from; }
  // IEEE 754 binary16: exponent bias 15 against 127; below the smallest exponent the value is fraction · 2^−24.
  static V Load(const F16 *from) {
    const uint32_t sign = static_cast<uint32_t>(from->bits & 0x8000) << 16;
    const uint32_t exponent = (from->bits >> 10) & 0x1f;
    const uint32_t fraction = from->bits & 0x3ff;
    if (exponent == 0) {
      const float value = static_cast<float>(fraction) * 0x1p-24f;
      return sign != 0 ? -value : value;
    }
    return FromBits(sign | (exponent == 31 ? 0xffu : exponent + 112) << 23 | fraction << 13);
  }
  static V Load(const BF16 *from) { return FromBits(static_cast<uint32_t>(from->bits) << 16); }
  template <class W>
  static V LoadPart(const W *from, int) {
    return Load(from);
  }
  static void Store(float *to, V value) { *to = value; }
  static void StorePart(float *to, V value, int) { *to = value; }
  // To the nearest, ties to even. Below 2^−14 in steps of 2^−24: adding ½ leaves the fraction in the lowest bits.
  static void Store(F16 *to, V value) {
    const uint32_t sign = ToBits(value) >> 16 & 0x8000, magnitude = ToBits(value) & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000) half = 0x7e00;
    else if (magnitude >= 0x477ff000) half = 0x7c00;
    else if (magnitude < 0x38800000) half = ToBits(FromBits(magnitude) + 0.5f) - ToBits(0.5f);
    else half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
    to->bits = static_cast<uint16_t>(sign | half);
  }
  static void StorePart(F16 *to, V value, int) { Store(to, value); }
  // value · 2^n, where n is the integer in the low bits of `shifted`.
  static V TimesPowerOf2(V value, V shifted) { return FromBits(ToBits(value) + (ToBits(shifted) << 23)); }
  // 0 where x < limit.
  static V ZeroBelow(V value, V x, V limit) { return x < limit ? 0 : value; }
  static float Sum(V value) { return value; }
  static void Sum4(V a, V b, V c, V d, float *to) {
    to[0] = a;
    to[1] = b;
    to[2] = c;
    to[3] = d;
  }
};

constexpr HostKernels kKernels = KernelsOf<Scalar>("scalar");

}  // namespace

const HostKernels *ScalarKernels() { return &kKernels; }

}  // namespace quiver::host
