// AVX2 with FMA and F16C: processors of Intel since 2013 and of AMD since 2015.
#include "kernel_table.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace quiver::host {
namespace {

struct Avx2 {
  using V = __m256;
  static constexpr int kWidth = 8;
  // 12 sums of 16 registers.
  static constexpr int kDotRows = 3;
  static constexpr int kDotRowsWidened = 2;
  static constexpr int kOutRows = 6;
  static constexpr int kOutRowsWidened = 4;
  static constexpr int kOutVectors = 2;

  // The first n of eight lanes.
  static __m256i Mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static V Zero() { return _mm256_setzero_ps(); }
  static V Set(float value) { return _mm256_set1_ps(value); }
  static V Add(V a, V b) { return _mm256_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V Div(V a, V b) { return _mm256_div_ps(a, b); }
  static V Max(V a, V b) { return _mm256_max_ps(a, b); }
  static V Fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V Widened(__m128i bits, F16) { return _mm256_cvtph_ps(bits); }
  static V Widened(__m128i bits, BF16) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)); }
  static V Load(const float *from) { return _mm256_loadu_ps(from); }
  static V LoadPart(const float *from, int n) { return _mm256_maskload_ps(from, Mask(n)); }
  template <class W>
  static V Load(const W *from) {
    return Widened(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)), W{});
  }
  template <class W>
  static V LoadPart(const W *from, int n) {
    W lanes[8] = {};
    for (int i = 0; i < n; i += 1) lanes[i] = from[i];
    return Load(lanes);
  }
  static void Store(float *to, V value) { _mm256_storeu_ps(to, value); }
  static void StorePart(float *to, V value, int n) { _mm256_maskstore_ps(to, Mask(n), value); }
  static __m128i Narrowed(V value) { return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT); }
  static void Store(F16 *to, V value) { _mm_storeu_si128(reinterpret_cast<__m128i *>(to), Narrowed(value)); }
  static void StorePart(F16 *to, V value, int n) {
    F16 lanes[8];
    Store(lanes, value);
    for (int i = 0; i < n; i += 1) to[i] = lanes[i];
  }
  // value · 2^n, where n is the integer in the low bits of `shifted`.
  static V TimesPowerOf2(V value, V shifted) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
  }
  // 0 where x < limit.
  static V ZeroBelow(V value, V x, V limit) { return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), value); }
  static float Sum(V value) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static void Sum4(V a, V b, V c, V d, float *to) {
    const V abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
  }
};

constexpr HostKernels kKernels = KernelsOf<Avx2>("avx2");

}  // namespace

const HostKernels *Avx2Kernels() { return &kKernels; }

}  // namespace quiver::host
#else
const quiver::host::HostKernels *quiver::host::Avx2Kernels() { return nullptr; }
#endif
