// Every processor of 64-bit ARM.
#include "product_neon.h"

#if defined(__aarch64__)
namespace quiver::host {
namespace {

struct Neon : NeonOutputs {
  static I Dot(I sum, Weights w, const int8_t *four) {
    const int8x16_t values = Four(four);
    // Sums of two neighbours, then of two such sums: two products of at most 127 · 127 fit into 16 bits.
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(values)), high = vmull_high_s8(w, values);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
  }
};

constexpr ProductKernels kKernels = {"neon", Quantize<Neon>, Multiply<Neon>};

}  // namespace

const ProductKernels *NeonProduct() { return &kKernels; }

}  // namespace quiver::host
#else
#include "product.h"
const quiver::host::ProductKernels *quiver::host::NeonProduct() { return nullptr; }
#endif
