// What the shim's headers, compiled with the kernels, ask of its core, which is compiled apart and never instrumented.
//
// The line between them is drawn by the sanitizers. Whatever a kernel does to memory must be seen by them, so every access on a
// kernel's behalf (shared memory, copies, rows of ldmatrix) is made in a header. What the shim keeps for itself (who waits for
// what, values under way between lanes) must not be seen, or it would look like races of the kernel; that is in the core.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace emulator {

/** A line of a kernel, for reports. */
struct Place {
  const char *file;
  int line;
};

/** What the threads of a block see of themselves. */
struct ThreadView {
  uint3 thread_index;
  uint3 block_index;
  dim3 block_size;
  dim3 grid_size;
  unsigned lane;
};

/** The thread that runs now. Null outside a kernel. */
extern ThreadView *self;

/** Names of things that a warp does together; all lanes of a mask must do the same. */
enum class Collective : int { sync, shuffle, vote, ldmatrix, mma };

/** What a lane gives to the others: a value of a shuffle, a row of a matrix, the registers of an mma. */
struct Payload {
  uint32_t word[6];
};

/** An asynchronous copy of 16 bytes. */
struct Copy {
  void *to;
  const void *from;
  bool read;
  unsigned group;
};

/** A launch as the core sees it: the arguments are behind `closure`. */
struct Launch {
  const char *kernel;
  const void *function;
  void (*entry)(const void *closure);
  const void *closure;
  dim3 grid, block;
  size_t shared_bytes;
};

/** Runs every block of the grid. @returns 0, or the cudaError that a GPU would give for such a launch */
int run(const Launch &launch);

/** Waits until every thread of the block is here. Stops the program if some cannot come. */
void barrier(Place place);

/** Gives `own` to the lanes of the mask and waits for theirs. @returns 32 payloads, by lane, valid until this lane's next call */
const Payload *exchange(unsigned mask, Collective what, const Payload &own, Place place);

void *dynamic_shared();

void copy_begin(const Copy &copy, Place place);
void copy_commit();
/** Takes the copies out of the queue that must have arrived when at most `groups` groups are under way. */
const Copy *copy_take(unsigned groups, size_t *count);

/** A lane's four results of an m16n8k16 product. `bf16` says what the 16-bit registers hold. */
void mma_lane(float (&d)[4], const Payload *lanes, unsigned lane, bool bf16);

/** Says what went wrong, in which kernel, block and thread and on which line, and ends the process with this code. */
constexpr int exit_code = 86;
[[noreturn]] void fail(Place place, const char *format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace emulator
