// The arithmetic of mma.m16n8k16, by the register layouts of the PTX ISA: lane = 4 * group + member.
//   a0: row group,     k = 2 member, +1     a1: row group + 8, same k     a2, a3: the same rows, k + 8
//   b0: k = 2 member, +1, column group      b1: k + 8
//   d0, d1: row group, columns 2 member, +1    d2, d3: row group + 8
#include "core.h"

namespace emulator {
namespace {

float value_of(const Payload &lane, unsigned reg, unsigned upper, bool bf16) {
  const uint16_t bits = static_cast<uint16_t>(lane.word[reg] >> (upper * 16));
  return bf16 ? to_float(bfloat16{bits}) : to_float(half{bits});
}

}  // namespace

void mma_lane(float (&d)[4], const Payload *lanes, unsigned lane, bool bf16) {
  const unsigned group = lane / 4, pair = lane % 4 * 2;
  for (unsigned k = 0; k < 16; k++) {
    const unsigned member = k % 8 / 2, later = k / 8, upper = k % 2;
    const float a0 = value_of(lanes[group * 4 + member], 2 * later, upper, bf16);
    const float a8 = value_of(lanes[group * 4 + member], 2 * later + 1, upper, bf16);
    const float b0 = value_of(lanes[pair * 4 + member], 4 + later, upper, bf16);
    const float b1 = value_of(lanes[(pair + 1) * 4 + member], 4 + later, upper, bf16);
    d[0] += a0 * b0;
    d[1] += a0 * b1;
    d[2] += a8 * b0;
    d[3] += a8 * b1;
  }
}

}  // namespace emulator
