// How one call of quiver::Product8 is spread over threads: rows are made integers first, in parallel where they are many; then each
// task is some panels of the weights times all rows, or times as many as the second cache holds. No choice made here changes a bit
// of the result (product.h).
#pragma once

#include "../operator/parallel.h"
#include "../operator/product_call.h"
#include "product.h"

namespace quiver::host {

// @param threads how many can work at once
// @return nullptr, or what is wrong; y is then partly written
const char *RunProduct(const ProductCall &call, const ProductKernels &kernels, int threads, Parallel &parallel);

}  // namespace quiver::host
