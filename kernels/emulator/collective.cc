// What the lanes of a warp do together, and reports of what can never happen.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"

namespace emulator {
namespace {

Exchange &exchange_of(Warp &warp, unsigned mask, Collective what, Place place) {
  for (Exchange &one : warp.exchanges) {
    if (one.mask == mask) return one;
  }
  warp.exchanges.push_back(Exchange{mask, what, place, 0, 0, {}, {}});
  return warp.exchanges.back();
}

void check_mask(const Thread &thread, unsigned mask, Collective what, Place place) {
  if (!(mask >> thread.lane & 1u)) fail(place, "%s with mask %08x, which does not name its own lane %u", name_of(what), mask, thread.lane);
  const Warp &warp = block.warps[thread.warp];
  if (const unsigned missing = mask & ~warp.present) {
    fail(place, "%s with mask %08x, whose lane %d the block does not have", name_of(what), mask, __builtin_ctz(missing));
  }
  if (const unsigned exited = mask & warp.exited) {
    fail(place, "%s with mask %08x, whose lane %d has already exited", name_of(what), mask, __builtin_ctz(exited));
  }
}

}  // namespace

const char *name_of(Collective what) {
  switch (what) {
    case Collective::sync:
      return "__syncwarp";
    case Collective::shuffle:
      return "shuffle";
    case Collective::vote:
      return "vote";
    case Collective::ldmatrix:
      return "ldmatrix";
    case Collective::mma:
      return "mma";
  }
  return "?";
}

const Payload *exchange(unsigned mask, Collective what, const Payload &own, Place place) {
  Thread &thread = current();
  check_mask(thread, mask, what, place);
  Exchange &shared = exchange_of(block.warps[thread.warp], mask, what, place);
  if (shared.arrived == 0) {
    shared.what = what;
    shared.place = place;
  } else if (shared.what != what) {
    fail(place, "%s while other lanes of the mask %08x are at %s (%s)", name_of(what), mask, name_of(shared.what),
         describe(shared.place).c_str());
  }
  const unsigned turn = shared.generation & 1;
  shared.values[turn][thread.lane] = own;
  shared.arrived |= 1u << thread.lane;
  // Only __syncwarp orders memory; a shuffle or a vote moves values and promises no more.
  if (what == Collective::sync) race_release(&shared.order[turn]);
  if (shared.arrived == mask) {
    shared.arrived = 0;
    shared.generation++;
    for (unsigned lane = 0; lane < 32; lane++) {
      if (mask >> lane & 1u) block.threads[thread.warp * 32u + lane]->state = State::ready;
    }
  } else {
    thread.state = State::in_collective;
    thread.waiting = &shared;
    thread.place = place;
    suspend();
  }
  if (what == Collective::sync) race_acquire(&shared.order[turn]);
  return shared.values[turn];
}

std::string describe(Place place) { return std::string(place.file) + ":" + std::to_string(place.line); }

std::string describe(const Thread &thread) {
  const uint3 at = thread.thread_index;
  return "thread (" + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
}

void fail(Place place, const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  const Thread &thread = current();
  const uint3 at = thread.block_index;
  // LAUNCH wants a kernel with template arguments in brackets; a reader does not.
  std::string kernel = block.launch.kernel;
  if (kernel.size() > 2 && kernel.front() == '(') kernel = kernel.substr(1, kernel.size() - 2);
  fflush(stdout);
  fprintf(stderr, "emulator: %s, block (%u,%u,%u), %s, %s: %s\n", kernel.c_str(), at.x, at.y, at.z, describe(thread).c_str(),
          describe(place).c_str(), message);
  fflush(stderr);
  _Exit(exit_code);
}

/** What a thread that does not run is doing, for a report. */
static std::string occupation(const Thread &thread) {
  if (thread.state == State::done) return describe(thread) + " has already exited";
  const char *what = thread.state == State::at_barrier ? "__syncthreads" : name_of(thread.waiting->what);
  return describe(thread) + " waits at " + what + " (" + describe(thread.place) + ")";
}

void report_stall() {
  const auto is_other = [](const Thread &one, const Thread &other) {
    return one.state != other.state || (one.state != State::done && (one.place.line != other.place.line || strcmp(one.place.file, other.place.file) != 0));
  };
  Thread *culprit = nullptr;
  std::string waiting;
  std::vector<const Thread *> kinds;
  for (size_t at = 0; at < block.count; at++) {
    Thread &thread = *block.threads[at];
    // A collective that misses lanes is the nearer cause: those at the barrier may only wait for it.
    const bool is_nearer = culprit != nullptr && culprit->state == State::at_barrier && thread.state == State::in_collective;
    if (thread.state != State::done && (culprit == nullptr || is_nearer)) culprit = &thread;
    bool is_new = kinds.size() < 8;
    for (const Thread *kind : kinds) is_new &= is_other(*kind, thread);
    if (!is_new) continue;
    kinds.push_back(&thread);
    waiting += (waiting.empty() ? "" : "; ") + occupation(thread);
  }
  self = culprit;
  if (culprit->state == State::at_barrier) fail(culprit->place, "divergent __syncthreads: %s", waiting.c_str());
  const Exchange &shared = *culprit->waiting;
  fail(culprit->place, "deadlock: %s with mask %08x waits for lanes %08x, which do not come: %s", name_of(shared.what), shared.mask,
       shared.mask & ~shared.arrived, waiting.c_str());
}

}  // namespace emulator
