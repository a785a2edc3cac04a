// AVX2 with FMA: processors of Intel since 2013 and of AMD since 2015.
#include "product_avx2.h"

#if defined(__x86_64__)
namespace quiver::host {
namespace {

struct Avx2 : EightOutputs {
  // Weights without their signs, which the values take: of two bytes one must be unsigned. Two products of at most 127 · 127 fit
  // into 16 bits.
  struct Weights {
    __m256i magnitude, signs;
  };
  static I Start(const int32_t *) { return _mm256_setzero_si256(); }
  static Weights Load(const uint8_t *from) {
    const __m256i bytes = LoadBytes(from);
    return {_mm256_abs_epi8(bytes), bytes};
  }
  static I Dot(I sum, const Weights &w, const int8_t *four) {
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitude, _mm256_sign_epi8(Four(four), w.signs));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

constexpr ProductKernels kKernels = {"avx2", Quantize<Avx2>, Multiply<Avx2>};

}  // namespace

const ProductKernels *Avx2Product() { return &kKernels; }

}  // namespace quiver::host
#else
#include "product.h"
const quiver::host::ProductKernels *quiver::host::Avx2Product() { return nullptr; }
#endif
