// AVX-512 F, BW, VL and DQ: every server processor of Intel since 2017 and of AMD since 2022.
#include "kernel_table.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace quiver::host {
namespace {

struct Avx512 {
  using V = __m512;
  static constexpr int kWidth = 16;
  // 24 sums, 4 weights, 1 value of 32 registers; widening on the way takes some away.
  static constexpr int kDotRows = 6;
  static constexpr int kDotRowsWidened = 4;
  static constexpr int kOutRows = 6;
  static constexpr int kOutRowsWidened = 4;
  static constexpr int kOutVectors = 4;

  static __mmask16 Mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static V Zero() { return _mm512_setzero_ps(); }
  static V Set(float value) { return _mm512_set1_ps(value); }
  static V Add(V a, V b) { return _mm512_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V Div(V a, V b) { return _mm512_div_ps(a, b); }
  static V Max(V a, V b) { return _mm512_max_ps(a, b); }
  static V Fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V Widened(__m256i bits, F16) { return _mm512_cvtph_ps(bits); }
  static V Widened(__m256i bits, BF16) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
  static V Load(const float *from) { return _mm512_loadu_ps(from); }
  static V LoadPart(const float *from, int n) { return _mm512_maskz_loadu_ps(Mask(n), from); }
  template <class W>
  static V Load(const W *from) {
    return Widened(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)), W{});
  }
  template <class W>
  static V LoadPart(const W *from, int n) {
    return Widened(_mm256_maskz_loadu_epi16(Mask(n), from), W{});
  }
  static void Store(float *to, V value) { _mm512_storeu_ps(to, value); }
  static void StorePart(float *to, V value, int n) { _mm512_mask_storeu_ps(to, Mask(n), value); }
  static void Store(F16 *to, V value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  static void StorePart(F16 *to, V value, int n) {
    _mm256_mask_storeu_epi16(to, Mask(n), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  // value · 2^n, where n is the integer in the low bits of `shifted`.
  static V TimesPowerOf2(V value, V shifted) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(value), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
  }
  // 0 where x < limit.
  static V ZeroBelow(V value, V x, V limit) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value); }
  static float Sum(V value) { return _mm512_reduce_add_ps(value); }
  static void Sum4(V a, V b, V c, V d, float *to) {
    // Within each quarter: a0+a2, b0+b2, a1+a3, b1+b3, the same of c and d, then both at once.
    const V ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const V cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const V abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
  }
};

constexpr HostKernels kKernels = KernelsOf<Avx512>("avx512");

}  // namespace

const HostKernels *Avx512Kernels() { return &kKernels; }

}  // namespace quiver::host
#else
const quiver::host::HostKernels *quiver::host::Avx512Kernels() { return nullptr; }
#endif
