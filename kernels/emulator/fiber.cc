#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifdef EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace emulator {
namespace {

constexpr size_t stack_bytes = 256 << 10;

// The fiber that was left last: its stack is what the address checker wants to hear of on arrival.
Fiber *left = nullptr;

}  // namespace

#ifndef EMULATOR_UCONTEXT
// The six registers that the x86-64 calling convention lets a function rely on, and the stack pointer. Saving no signal mask
// and making no system call is why this is some ten times as fast as swapcontext.
extern "C" void quiver_fiber_switch(void **save, void *load);
asm(R"(
.text
.p2align 4
.globl quiver_fiber_switch
.hidden quiver_fiber_switch
.type quiver_fiber_switch, @function
quiver_fiber_switch:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size quiver_fiber_switch, .-quiver_fiber_switch
)");
#endif

Fiber::Fiber() {
#ifdef EMULATOR_TSAN
  race_fiber_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(void (*entry)()) : entry_(entry), bytes_(stack_bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void *mapping = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED || mprotect(mapping, page, PROT_NONE) != 0) {
    perror("emulator: no memory for a thread's stack");
    abort();
  }
  mapping_ = static_cast<char *>(mapping);
  bottom_ = mapping_ + page;
#ifdef EMULATOR_TSAN
  race_fiber_ = __tsan_create_fiber(0);
#endif
  reset();
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#ifdef EMULATOR_TSAN
  __tsan_destroy_fiber(race_fiber_);
#endif
  munmap(mapping_, static_cast<size_t>(sysconf(_SC_PAGESIZE)) + stack_bytes);
}

void Fiber::reset() {
#ifdef EMULATOR_UCONTEXT
  getcontext(&context_);
  context_.uc_stack.ss_sp = const_cast<void *>(bottom_);
  context_.uc_stack.ss_size = bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, entry_, 0);
#else
  void **top = reinterpret_cast<void **>(mapping_ + static_cast<size_t>(sysconf(_SC_PAGESIZE)) + stack_bytes);
  // As after a call: the return address lies 8 bytes below a multiple of 16. Above it, nothing to return to.
  *--top = nullptr;
  *--top = reinterpret_cast<void *>(entry_);
  for (int saved = 0; saved < 6; saved++) *--top = nullptr;
  stack_pointer_ = top;
#endif
}

void Fiber::switch_to(Fiber &next, bool is_last) {
  left = this;
#ifdef EMULATOR_TSAN
  // 1: the switch itself orders nothing, or every race between two threads of a block would go unseen.
  __tsan_switch_to_fiber(next.race_fiber_, 1);
#endif
#ifdef EMULATOR_ASAN
  __sanitizer_start_switch_fiber(is_last ? nullptr : &fake_stack_, next.bottom_, next.bytes_);
#endif
  (void)is_last;
#ifdef EMULATOR_UCONTEXT
  swapcontext(&context_, &next.context_);
#else
  quiver_fiber_switch(&stack_pointer_, next.stack_pointer_);
#endif
  arrive();
}

void Fiber::arrive() {
#ifdef EMULATOR_ASAN
  const void *bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &bytes);
  fake_stack_ = nullptr;
  // The stack that the program itself came with is known only from here.
  if (left->mapping_ == nullptr) {
    left->bottom_ = bottom;
    left->bytes_ = bytes;
  }
#endif
}

void race_release(void *object) {
#ifdef EMULATOR_TSAN
  __tsan_release(object);
#else
  (void)object;
#endif
}

void race_acquire(void *object) {
#ifdef EMULATOR_TSAN
  __tsan_acquire(object);
#else
  (void)object;
#endif
}

}  // namespace emulator
