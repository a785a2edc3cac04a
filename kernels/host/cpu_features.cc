#include "cpu_features.h"

#include <cstring>

#include "product.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace quiver::host {
namespace {

struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_vnni = false;
  bool avx_vnni = false;
  bool amx = false;
  bool neon = false;
  bool neon_dot = false;
};

#if defined(__x86_64__)
bool Has(unsigned value, int bit) { return (value >> bit & 1) != 0; }

// Linux gives a process the registers of matrix tiles only when it asks for them (arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA).
bool MayUseTiles() {
#if defined(__linux__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// Bit numbers: Intel's manual, volume 2, CPUID. The register XCR0 tells which vector registers the operating system saves.
Features Detect() {
  Features found;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return found;
  const bool fma = Has(ecx, 12), saves = Has(ecx, 27), avx = Has(ecx, 28), f16c = Has(ecx, 29);
  if (!(fma && saves && avx && f16c)) return found;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x06) != 0x06) return found;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;
  found.avx2 = Has(ebx, 5);
  const bool saves_avx512 = (low & 0xe0) == 0xe0;
  found.avx512 = found.avx2 && saves_avx512 && Has(ebx, 16) && Has(ebx, 17) && Has(ebx, 30) && Has(ebx, 31);
  found.avx512_vnni = found.avx512 && Has(ecx, 11);
  const bool saves_tiles = (low & 0x60000) == 0x60000;
  found.amx = found.avx512_vnni && saves_tiles && Has(edx, 24) && Has(edx, 25) && MayUseTiles();
  if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) found.avx_vnni = found.avx2 && Has(eax, 4);
  return found;
}
#elif defined(__aarch64__)
Features Detect() {
  Features found;
  found.neon = true;
#if defined(__APPLE__)
  found.neon_dot = true;
#elif defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  found.neon_dot = (getauxval(AT_HWCAP) & kDotProducts) != 0;
#endif
  return found;
}
#else
Features Detect() { return {}; }
#endif

template <class Kernels, size_t kCount>
const Kernels *FirstNamed(const Kernels *const (&newest_first)[kCount], const char *wanted) {
  const bool is_any = wanted == nullptr || *wanted == '\0';
  for (const Kernels *kernels : newest_first) {
    if (kernels != nullptr && (is_any || std::strcmp(kernels->name, wanted) == 0)) return kernels;
  }
  return nullptr;
}

}  // namespace

const HostKernels *ChooseKernels(const char *wanted) {
  const Features features = Detect();
  const HostKernels *const newest_first[] = {
      features.avx512 ? Avx512Kernels() : nullptr,
      features.avx2 ? Avx2Kernels() : nullptr,
      features.neon ? NeonKernels() : nullptr,
      ScalarKernels(),
  };
  return FirstNamed(newest_first, wanted);
}

const ProductKernels *ChooseProduct(const char *wanted) {
  const Features features = Detect();
  const ProductKernels *const newest_first[] = {
      features.amx ? AmxProduct() : nullptr,
      features.avx512_vnni ? Avx512VnniProduct() : nullptr,
      features.avx_vnni ? AvxVnniProduct() : nullptr,
      features.avx2 ? Avx2Product() : nullptr,
      features.neon_dot ? NeonDotProduct() : nullptr,
      features.neon ? NeonProduct() : nullptr,
      ScalarProduct(),
  };
  return FirstNamed(newest_first, wanted);
}

}  // namespace quiver::host
