// VNNI on vectors of 8: processors of Intel for desktops since 2021, of AMD since 2024. Compilers before 2021 do not know it.
#include "product_avx2.h"

#if defined(__x86_64__) && defined(__AVXVNNI__)
namespace quiver::host {
namespace {

struct AvxVnni : EightOutputs {
  using Weights = __m256i;
  static I Start(const int32_t *sum) { return _mm256_set1_epi32(*sum); }
  static Weights Load(const uint8_t *from) { return _mm256_xor_si256(LoadBytes(from), _mm256_set1_epi8(-128)); }
  static I Dot(I sum, Weights w, const int8_t *four) { return _mm256_dpbusd_avx_epi32(sum, w, Four(four)); }
};

constexpr ProductKernels kKernels = {"avxvnni", Quantize<AvxVnni>, Multiply<AvxVnni>};

}  // namespace

const ProductKernels *AvxVnniProduct() { return &kKernels; }

}  // namespace quiver::host
#else
#include "product.h"
const quiver::host::ProductKernels *quiver::host::AvxVnniProduct() { return nullptr; }
#endif
