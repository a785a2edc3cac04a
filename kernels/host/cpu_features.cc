#include "cpu_features.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace quiver::host {
namespace {

struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool neon = false;
};

#if defined(__x86_64__)
bool Has(unsigned value, int bit) { return (value >> bit & 1) != 0; }

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
  found.avx512 = found.avx2 && (low & 0xe0) == 0xe0 && Has(ebx, 16) && Has(ebx, 17) && Has(ebx, 30) && Has(ebx, 31);
  return found;
}
#elif defined(__aarch64__)
Features Detect() {
  Features found;
  found.neon = true;
  return found;
}
#else
Features Detect() { return {}; }
#endif

}  // namespace

const HostKernels *ChooseKernels(const char *wanted) {
  const Features features = Detect();
  const HostKernels *const newest_first[] = {
      features.avx512 ? Avx512Kernels() : nullptr,
      features.avx2 ? Avx2Kernels() : nullptr,
      features.neon ? NeonKernels() : nullptr,
      ScalarKernels(),
  };
  const bool is_any = wanted == nullptr || *wanted == '\0';
  for (const HostKernels *kernels : newest_first) {
    if (kernels != nullptr && (is_any || std::strcmp(kernels->name, wanted) == 0)) return kernels;
  }
  return nullptr;
}

}  // namespace quiver::host
