// Fibers: places of execution with a stack of their own, switched by hand on one OS thread.
#pragma once

#include <cstddef>

#ifndef __x86_64__
#define EMULATOR_UCONTEXT
#endif
#ifdef EMULATOR_UCONTEXT
#include <ucontext.h>
#endif

namespace emulator {

/** A stack of 256 kB that takes memory only where it is touched, above a page that nothing may touch. Used again and again. */
class Fiber {
 public:
  /** The fiber of whoever makes it, with the stack that is already there. */
  Fiber();
  /** A fiber that will run `entry` when it is first switched to. `entry` must not return. */
  explicit Fiber(void (*entry)());
  Fiber(const Fiber &) = delete;
  Fiber &operator=(const Fiber &) = delete;
  ~Fiber();

  /** Makes it start from its entry again. The last run must have come to its end. */
  void reset();
  /** Goes on in `next` and comes back when somebody switches here. `is_last`: this fiber's run is over. */
  void switch_to(Fiber &next, bool is_last = false);
  /** The first thing on a fiber that has just been started. */
  void arrive();

 private:
  void (*entry_)() = nullptr;
  char *mapping_ = nullptr;
  const void *bottom_ = nullptr;
  size_t bytes_ = 0;
#ifdef EMULATOR_UCONTEXT
  ucontext_t context_;
#else
  void *stack_pointer_ = nullptr;
#endif
  void *fake_stack_ = nullptr;
  void *race_fiber_ = nullptr;
};

/** What happened before a release is seen by whoever acquires the same object after it. Only for the race checker. */
void race_release(void *object);
void race_acquire(void *object);

}  // namespace emulator
