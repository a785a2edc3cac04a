// What the lanes of a warp do together, and what a single lane leaves for later: asynchronous copies.
#pragma once

#include <type_traits>

#include "core.h"

#define PLACE_ARGUMENT const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncwarp(unsigned mask = 0xffffffffu, PLACE_ARGUMENT) {
  emulator::exchange(mask, emulator::Collective::sync, {}, {file, line});
}

namespace emulator {

/** Takes the value of lane `source`; a lane that asks outside of its group of `width` keeps its own. */
template <typename T>
T shuffle(unsigned mask, T value, int source, bool is_inside, Place place) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  Payload own{};
  memcpy(own.word, &value, sizeof value);
  const Payload *lanes = exchange(mask, Collective::shuffle, own, place);
  if (!is_inside) return value;
  if (!(mask >> source & 1u)) fail(place, "shuffle from lane %d, which is not in the mask %08x", source, mask);
  T result;
  memcpy(&result, lanes[source].word, sizeof result);
  return result;
}

/** Which lanes of the mask said yes. */
inline unsigned vote(unsigned mask, bool yes, Place place) {
  Payload own{};
  own.word[0] = yes;
  const Payload *lanes = exchange(mask, Collective::vote, own, place);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (mask >> lane & 1u) ballot |= lanes[lane].word[0] << lane;
  }
  return ballot;
}

}  // namespace emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, PLACE_ARGUMENT) {
  const int lane = static_cast<int>(emulator::self->lane);
  return emulator::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), true, {file, line});
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, PLACE_ARGUMENT) {
  const int lane = static_cast<int>(emulator::self->lane);
  const int source = lane ^ bits;
  return emulator::shuffle(mask, value, source, source <= (lane | (width - 1)), {file, line});
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, PLACE_ARGUMENT) {
  const int lane = static_cast<int>(emulator::self->lane);
  const int source = lane - static_cast<int>(by);
  return emulator::shuffle(mask, value, source, source >= (lane & ~(width - 1)), {file, line});
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, PLACE_ARGUMENT) {
  const int lane = static_cast<int>(emulator::self->lane);
  const int source = lane + static_cast<int>(by);
  return emulator::shuffle(mask, value, source, source <= (lane | (width - 1)), {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int yes, PLACE_ARGUMENT) {
  return emulator::vote(mask, yes != 0, {file, line});
}
inline int __any_sync(unsigned mask, int yes, PLACE_ARGUMENT) { return emulator::vote(mask, yes != 0, {file, line}) != 0; }
inline int __all_sync(unsigned mask, int yes, PLACE_ARGUMENT) { return emulator::vote(mask, yes != 0, {file, line}) == mask; }

/**
 * The target is filled with NaNs now and gets its bytes when the copy is waited for: whoever reads too early, waits for too few
 * groups or overwrites what others still read, sees NaNs. The source is read now as well, so that a read past its end is
 * reported on this line.
 */
inline void cp_async16(void *shared, const void *global, bool read, PLACE_ARGUMENT) {
  const emulator::Place place{file, line};
  if (reinterpret_cast<uintptr_t>(shared) % 16) emulator::fail(place, "misaligned cp.async: target %p is not 16-byte aligned", shared);
  if (read && reinterpret_cast<uintptr_t>(global) % 16) {
    emulator::fail(place, "misaligned cp.async: source %p is not 16-byte aligned", global);
  }
  if (read) {
    const volatile uint64_t *source = static_cast<const volatile uint64_t *>(global);
    (void)source[0];
    (void)source[1];
  }
  *static_cast<uint4 *>(shared) = {~0u, ~0u, ~0u, ~0u};
  emulator::copy_begin({shared, global, read, 0}, place);
}
inline void cp_commit() { emulator::copy_commit(); }
template <int groups>
void cp_wait() {
  size_t count = 0;
  const emulator::Copy *arrived = emulator::copy_take(groups, &count);
  for (size_t at = 0; at < count; at++) {
    const emulator::Copy &copy = arrived[at];
    *static_cast<uint4 *>(copy.to) = copy.read ? *static_cast<const uint4 *>(copy.from) : uint4{0, 0, 0, 0};
  }
}

namespace emulator {

/** PTX ISA, ldmatrix: register j of lane l holds row l / 4, columns 2 (l % 4) and the next, of tile j; or of its transpose. */
inline void ldmatrix(unsigned (&regs)[4], const void *row, bool trans, Place place) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail(place, "misaligned ldmatrix: row %p is not 16-byte aligned", row);
  Payload own{};
  const uint4 values = *static_cast<const uint4 *>(row);
  memcpy(own.word, &values, sizeof values);
  const Payload *lanes = exchange(0xffffffffu, Collective::ldmatrix, own, place);
  const unsigned line = self->lane / 4, pair = self->lane % 4 * 2;
  const auto value = [&](unsigned tile, unsigned at, unsigned column) {
    return lanes[tile * 8 + at].word[column / 2] >> (column % 2 * 16) & 0xffffu;
  };
  for (unsigned tile = 0; tile < 4; tile++) {
    regs[tile] = trans ? value(tile, pair, line) | value(tile, pair + 1, line) << 16
                       : value(tile, line, pair) | value(tile, line, pair + 1) << 16;
  }
}

}  // namespace emulator

inline void ldmatrix_x4(unsigned (&regs)[4], const void *row, PLACE_ARGUMENT) { emulator::ldmatrix(regs, row, false, {file, line}); }
inline void ldmatrix_x4_trans(unsigned (&regs)[4], const void *row, PLACE_ARGUMENT) {
  emulator::ldmatrix(regs, row, true, {file, line});
}

template <typename T>
void mma16816(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, PLACE_ARGUMENT) {
  const emulator::Payload own{{a[0], a[1], a[2], a[3], b0, b1}};
  const emulator::Payload *lanes = emulator::exchange(0xffffffffu, emulator::Collective::mma, own, {file, line});
  emulator::mma_lane(d, lanes, emulator::self->lane, std::is_same_v<T, bfloat16>);
}
