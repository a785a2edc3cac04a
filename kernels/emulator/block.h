// The state of one block of threads while the shim runs it.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "core.h"
#include "fiber.h"

namespace emulator {

/** What the lanes of one mask are exchanging. Two sets of values: a lane may be one exchange ahead of those that still read. */
struct Exchange {
  unsigned mask;
  Collective what;
  Place place;
  unsigned arrived;
  unsigned generation;
  Payload values[2][32];
  char order[2];
};

struct Warp {
  // Lanes that the block has, and those of them that have exited.
  unsigned present = 0;
  unsigned exited = 0;
  std::deque<Exchange> exchanges;
};

enum class State { ready, at_barrier, in_collective, done };

struct Thread : ThreadView {
  Thread() : fiber(nullptr) {}
  std::unique_ptr<Fiber> fiber;
  State state;
  /** Where it waits. */
  Place place;
  const Exchange *waiting;
  unsigned warp;
  std::vector<Copy> copies;
  std::vector<Copy> arrived;
  unsigned group;
  Place copied;
};

struct Block {
  Launch launch;
  std::vector<std::unique_ptr<Thread>> threads;
  /** Threads of this block; `threads` keeps more, from larger ones, to use again. */
  size_t count;
  std::vector<Warp> warps;
  unsigned generation;
  // The race checker's objects. Two for the barrier, used in turns: with one, a thread that is a barrier ahead would seem to be
  // ordered before those that have not left the last, and a buffer written too early would go unseen. Start and end differ, or
  // the end of one thread would seem to come before the start of the next.
  char barrier_order[2];
  char start_order;
  char end_order;
};

extern Block block;

/** The thread that runs now. */
Thread &current();
/** Gives the processor back to the scheduler until it finds this thread ready again. */
void suspend();

std::string describe(const Thread &thread);
std::string describe(Place place);
const char *name_of(Collective what);
/** Nobody can go on. Says why and ends the process. */
[[noreturn]] void report_stall();

}  // namespace emulator
