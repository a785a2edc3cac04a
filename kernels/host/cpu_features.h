#pragma once

#include "kernels.h"

namespace quiver::host {

// The kernels of the newest instruction set that this processor and its operating system have. `wanted` ("avx512", "avx2",
// "neon", "scalar"; nullptr or "" for the newest) names another one; nullptr when that is not to be had here.
const HostKernels *ChooseKernels(const char *wanted);

}  // namespace quiver::host
