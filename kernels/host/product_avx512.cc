// AVX-512 with VNNI: server processors of Intel since 2019 and of AMD since 2022.
#include "product_avx512.h"

#if defined(__x86_64__)
namespace quiver::host {
namespace {

constexpr ProductKernels kKernels = {"avx512vnni", Quantize<Avx512Vnni>, Multiply<Avx512Vnni>};

}  // namespace

const ProductKernels *Avx512VnniProduct() { return &kKernels; }

}  // namespace quiver::host
#else
#include "product.h"
const quiver::host::ProductKernels *quiver::host::Avx512VnniProduct() { return nullptr; }
#endif
