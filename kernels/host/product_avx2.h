// What the kernels on vectors of 8 outputs have in common.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>

#include "product_tiles.h"

namespace quiver::host {
namespace {

struct EightOutputs {
  using I = __m256i;
  using F = __m256;
  static constexpr int kOutputs = 8;
  static constexpr int kRows = 4;
  // How far ahead of its use a weight is asked for, into the second cache.
  static constexpr int kAhead = 4096;

  static __m256i Four(const int8_t *four) {
    int32_t bits;
    __builtin_memcpy(&bits, four, sizeof bits);
    return _mm256_set1_epi32(bits);
  }
  static __m256i LoadBytes(const uint8_t *from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)); }
  static F Zero() { return _mm256_setzero_ps(); }
  static F Scales(const uint8_t *from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static F Accumulate(I sums, const float *row_scale, F scales, F total) {
    return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(*row_scale)), scales, total);
  }
  static void Store(float *to, F value, int count) {
    if (count >= 8) return _mm256_storeu_ps(to, value);
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    _mm256_maskstore_ps(to, mask, value);
  }
  static void Prefetch(const uint8_t *at) { _mm_prefetch(reinterpret_cast<const char *>(at) + kAhead, _MM_HINT_T1); }

  static uint32_t Magnitude(const float *x) {
    const __m256i sign_off = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < kBlockInputs; i += 8) {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(x + i));
      most = _mm256_max_epu32(most, _mm256_and_si256(bits, sign_off));
    }
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
  }
  static int32_t Round(const float *x, float inverse, int8_t *to) {
    const __m256 factor = _mm256_set1_ps(inverse);
    __m256i part[4], sum = _mm256_setzero_si256();
    for (int i = 0; i < 4; i += 1) {
      part[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), factor));
      sum = _mm256_add_epi32(sum, part[i]);
    }
    // Packing works within halves; the permutation puts fours back in their order.
    const __m256i words = _mm256_packs_epi32(part[0], part[1]), more = _mm256_packs_epi32(part[2], part[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words, more), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), bytes);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return -128 * _mm_cvtsi128_si32(four);
  }
};

}  // namespace
}  // namespace quiver::host
#endif
