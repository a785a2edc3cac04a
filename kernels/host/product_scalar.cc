// One output at a time: for processors without any of the others, and for reading.
#include "product_tiles.h"

namespace quiver::host {
namespace {

struct Scalar {
  using I = int32_t;
  using F = float;
  static constexpr int kOutputs = 1;
  static constexpr int kRows = 4;
  struct Weights {
    int8_t of[4];
  };

  static I Start(const int32_t *) { return 0; }
  static Weights Load(const uint8_t *from) {
    Weights weights;
    __builtin_memcpy(&weights, from, sizeof weights);
    return weights;
  }
  static I Dot(I sum, const Weights &w, const int8_t *four) {
    for (int i = 0; i < 4; i += 1) sum += w.of[i] * four[i];
    return sum;
  }
  static F Zero() { return 0; }
  static F Scales(const uint8_t *from) {
    uint16_t bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return FromBits(static_cast<uint32_t>(bits) << 16);
  }
  static F Accumulate(I sums, const float *row_scale, F scales, F total) {
    return __builtin_fmaf(static_cast<float>(sums) * *row_scale, scales, total);
  }
  static void Store(float *to, F value, int) { *to = value; }
  static void Prefetch(const uint8_t *) {}

  static uint32_t Magnitude(const float *x) {
    uint32_t most = 0;
    for (int64_t i = 0; i < kBlockInputs; i += 1) {
      uint32_t bits;
      __builtin_memcpy(&bits, x + i, sizeof bits);
      bits &= 0x7fffffff;
      if (bits > most) most = bits;
    }
    return most;
  }
  static int32_t Round(const float *x, float inverse, int8_t *to) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kBlockInputs; i += 1) {
      // Added and taken off again, 1.5 · 2^23 leaves the nearest integer, halves going to the even one as in every other set.
      // Each step is rounded by itself: nothing may be fused.
      constexpr float kMagic = 12582912;
      const volatile float product = x[i] * inverse;
      const volatile float shifted = product + kMagic;
      to[i] = static_cast<int8_t>(shifted - kMagic);
      sum += to[i];
    }
    return -128 * sum;
  }
};

constexpr ProductKernels kKernels = {"scalar", Quantize<Scalar>, Multiply<Scalar>};

}  // namespace

const ProductKernels *ScalarProduct() { return &kKernels; }

}  // namespace quiver::host
