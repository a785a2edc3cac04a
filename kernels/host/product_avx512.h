// What AVX-512 with VNNI and AMX have in common.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include "product_tiles.h"

namespace quiver::host {
namespace {

struct Avx512Vnni {
  using I = __m512i;
  using F = __m512;
  using Weights = __m512i;
  static constexpr int kOutputs = 16;
  static constexpr int kRows = 8;
  // How far ahead of its use a weight is asked for, into the second cache.
  static constexpr int kAhead = 4096;

  static I Start(const int32_t *sum) { return _mm512_set1_epi32(*sum); }
  static Weights Load(const uint8_t *from) {
    return _mm512_xor_si512(_mm512_loadu_si512(from), _mm512_set1_epi32(static_cast<int>(0x80808080)));
  }
  static I Dot(I sum, Weights w, const int8_t *four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof bits);
    return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(bits));
  }
  static F Zero() { return _mm512_setzero_ps(); }
  static F Scales(const uint8_t *from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static F Accumulate(I sums, const float *row_scale, F scales, F total) {
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(*row_scale)), scales, total);
  }
  static void Store(float *to, F value, int count) {
    if (count >= 16) _mm512_storeu_ps(to, value);
    else _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
  }
  static void Prefetch(const uint8_t *at) { _mm_prefetch(reinterpret_cast<const char *>(at) + kAhead, _MM_HINT_T1); }

  static uint32_t Magnitude(const float *x) {
    const __m512i sign_off = _mm512_set1_epi32(0x7fffffff);
    const __m512i low = _mm512_and_si512(_mm512_loadu_si512(x), sign_off);
    const __m512i high = _mm512_and_si512(_mm512_loadu_si512(x + 16), sign_off);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(low, high));
  }
  static int32_t Round(const float *x, float inverse, int8_t *to) {
    const __m512 factor = _mm512_set1_ps(inverse);
    const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
    const __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), factor));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtsepi32_epi8(low));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to + 16), _mm512_cvtsepi32_epi8(high));
    return -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
  }
};

}  // namespace
}  // namespace quiver::host
#endif
