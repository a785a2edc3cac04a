// 64-bit ARM with instructions for dot products of bytes: servers and Apple's processors since 2019 or so.
#include "product_neon.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
namespace quiver::host {
namespace {

struct NeonDot : NeonOutputs {
  static I Dot(I sum, Weights w, const int8_t *four) { return vdotq_s32(sum, w, Four(four)); }
};

constexpr ProductKernels kKernels = {"neondot", Quantize<NeonDot>, Multiply<NeonDot>};

}  // namespace

const ProductKernels *NeonDotProduct() { return &kKernels; }

}  // namespace quiver::host
#else
#include "product.h"
const quiver::host::ProductKernels *quiver::host::NeonDotProduct() { return nullptr; }
#endif
